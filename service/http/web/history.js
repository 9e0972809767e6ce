// The faces of this session: open one again, compare two, download all.
import { saveZip } from "./zip.js";

export class History {
  #find;
  #onOpen;
  #files = []; // name and address of each guess
  #seen = new Map(); // photo -> the names of its guesses

  constructor({ find, onOpen }) {
    [this.#find, this.#onOpen] = [find, onOpen];
    find("zip").addEventListener("click", () => saveZip(this.#files, "faces.zip"));
    find("drawn-before").addEventListener("change", () => this.#compare());
  }

  /** Lists the default guess of an eye, and keeps all of them for the archive, each once. */
  add(photo, { eye, guesses }) {
    const seen = this.#seen.get(photo) ?? new Set();
    this.#seen.set(photo, seen);
    if (!seen.has(guesses[0].file)) this.#find("drawn-before").prepend(this.#entryOf(photo, eye, guesses[0].src));
    this.#find("history").hidden = this.#find("drawn-before").children.length < 2;
    for (const { file, src } of guesses.filter((guess) => !seen.has(guess.file))) {
      seen.add(file);
      this.#files.push([`${this.#files.length + 1}-${photo.name.replace(/\.\w+$/, "")}-${file}`, src]);
    }
  }

  #entryOf(photo, crop, face) {
    const entry = document.importNode(this.#find("entry").content, true).firstElementChild;
    const [eye, drawn] = entry.querySelectorAll("img");
    [eye.src, drawn.src] = [crop, face];
    entry.querySelector("button").ariaLabel = `Open ${photo.name} again`;
    entry.querySelector("button").addEventListener("click", () => this.#onOpen(photo));
    return entry;
  }

  #compare() {
    const ticked = [...this.#find("drawn-before").querySelectorAll("li")].filter((entry) => entry.querySelector(":checked"));
    for (const box of this.#find("drawn-before").querySelectorAll("input")) {
      box.disabled = ticked.length === 2 && !box.checked;
    }
    const pairs = ticked.map((entry) => entry.querySelector(".pair").cloneNode(true));
    this.#find("compared").replaceChildren(...pairs);
    this.#find("compared").hidden = ticked.length < 2;
  }
}
