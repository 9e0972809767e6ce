// Photos that are chosen, dropped, pasted, or examples; and those of kinds that only the browser reads.

/** The picture as a JPEG, drawn by the browser; null if it cannot read it. */
export async function convert(file) {
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  const jpeg = await new Promise((take) => canvas.toBlob(take, "image/jpeg", 0.92));
  return new File([jpeg], `${file.name}.jpg`, { type: jpeg.type });
}

export function listenForPhotos({ inputs, examples, onPhoto }) {
  const take = (files) => files.length > 0 && onPhoto(files[0]);
  for (const input of inputs) {
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = ""; // the same photo may be chosen again
    });
  }
  for (const image of examples) {
    image.parentElement.addEventListener("click", async () => {
      const picture = await (await fetch(image.src)).blob();
      onPhoto(new File([picture], image.src.split("/").at(-1), { type: picture.type }));
    });
  }
  window.addEventListener("paste", (event) => take(event.clipboardData.files));
  // The whole window takes a dropped photo: beside the box it would replace the page.
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    take(event.dataTransfer.files);
  });
}
