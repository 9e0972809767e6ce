// The faces of this session: open one again, compare two, download all.
import { askZip, service } from "./ask.js";

export class History {
  #find;
  #onOpen;
  #onProblem;
  #seen = new Map(); // photo -> the names of its eyes that are listed

  constructor({ find, onOpen, onProblem }) {
    [this.#find, this.#onOpen, this.#onProblem] = [find, onOpen, onProblem];
    find("zip").addEventListener("click", () => this.#download());
    find("drawn-before").addEventListener("change", () => this.#compare());
  }

  /** Lists the faces of one eye, once. */
  add(photo, eye, { eye: crop, faces }) {
    const seen = this.#seen.get(photo) ?? new Set();
    const name = `${eye.person} ${eye.side}`;
    if (seen.has(name)) return;
    this.#seen.set(photo, seen.add(name));
    this.#find("drawn-before").prepend(...faces.map((face) => this.#entryOf(photo, crop, face)));
    this.#find("history").hidden = this.#find("drawn-before").children.length < 2;
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

  async #download() {
    const photos = [...this.#seen.keys()];
    try {
      for (let begin = 0; begin < photos.length; begin += service.max_batch_photos) {
        save(await askZip(photos.slice(begin, begin + service.max_batch_photos)), "faces.zip");
      }
    } catch (problem) {
      this.#onProblem(problem);
    }
  }
}

function save(file, name) {
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: name }).click();
}
