// Photos that are chosen, dropped or pasted.

export function listenForPhotos({ drop, inputs, onPhoto }) {
  const take = (files) => files.length > 0 && onPhoto(files[0]);
  for (const input of inputs) {
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = ""; // the same photo may be chosen again
    });
  }
  window.addEventListener("paste", (event) => take(event.clipboardData.files));
  // The whole window takes a dropped photo: beside the box it would replace the page.
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
}
