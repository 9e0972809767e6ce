// The eye as the model sees it, cut from the photo as the page shows it.

/** Draws the eye's square upright; centers are of pixels, so half a pixel leads from them to the drawing's. */
export function drawCrop(canvas, photo, eye) {
  const pen = canvas.getContext("2d");
  const scale = canvas.width / eye.size_px;
  pen.reset();
  pen.imageSmoothingQuality = "high";
  pen.translate(canvas.width / 2, canvas.height / 2);
  pen.rotate((-eye.roll_deg * Math.PI) / 180);
  pen.scale(scale, scale);
  pen.drawImage(photo, -eye.x - 0.5, -eye.y - 0.5);
}

/** Draws the middle of the picture, which is taken for the eye where none was found. */
export function drawMiddle(canvas, photo) {
  const [width, height] = [photo.naturalWidth, photo.naturalHeight];
  drawCrop(canvas, photo, { x: (width - 1) / 2, y: (height - 1) / 2, size_px: Math.min(width, height), roll_deg: 0 });
}
