// A photo from the camera: live in the page where the browser allows it, otherwise by the camera's own app.
import { Problem } from "./ask.js";

export function offerCamera({ find, onPhoto, onProblem }) {
  // Browsers give the camera to pages from this machine or over HTTPS only.
  const isLive = Boolean(navigator.mediaDevices?.getUserMedia);
  find("take").hidden = !isLive;
  find("capture-way").hidden = isLive;
  const [dialog, preview] = [find("camera"), find("preview")];

  async function open() {
    try {
      const video = { facingMode: "user", width: { ideal: 1280 } };
      preview.srcObject = await navigator.mediaDevices.getUserMedia({ video });
      dialog.showModal();
    } catch (error) {
      find("capture-way").hidden = false;
      find("take").hidden = true;
      onProblem(new Problem({ code: "camera", detail: error.message }));
    }
  }

  async function shoot() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [preview.videoWidth, preview.videoHeight];
    canvas.getContext("2d").drawImage(preview, 0, 0);
    const photo = await new Promise((take) => canvas.toBlob(take, "image/jpeg", 0.92));
    dialog.close();
    onPhoto(new File([photo], "camera.jpg", { type: photo.type }));
  }

  find("take").addEventListener("click", open);
  find("shoot").addEventListener("click", shoot);
  find("leave").addEventListener("click", () => dialog.close());
  preview.addEventListener("loadeddata", () => (find("shoot").disabled = false));
  dialog.addEventListener("close", () => {
    for (const track of preview.srcObject.getTracks()) track.stop();
    preview.srcObject = null;
    find("shoot").disabled = true;
  });
}
