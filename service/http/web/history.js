// The faces of this session: open one again, compare two, download all.
import { zip } from "./zip.js";

export class History {
  #find;
  #onOpen;
  #faces = []; // name and bytes of each file that is listed
  #seen = new Map(); // photo -> the names of its eyes that are listed

  constructor({ find, onOpen }) {
    [this.#find, this.#onOpen] = [find, onOpen];
    find("zip").addEventListener("click", () => save(zip(this.#faces), "faces.zip"));
    find("drawn-before").addEventListener("change", () => this.#compare());
  }

  /** Lists the faces of one eye, once. */
  add(photo, eye, { eye: crop, faces }) {
    const seen = this.#seen.get(photo) ?? new Set();
    const name = `${eye.person} ${eye.side}`;
    if (seen.has(name)) return;
    this.#seen.set(photo, seen.add(name));
    for (const face of faces) this.#faces.push([this.#fileOf(photo, eye, face), bytesOf(face)]);
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

  #fileOf(photo, { person, side }, face) {
    const [, format] = /^data:image\/(\w+)/.exec(face);
    return `${this.#faces.length + 1}-${photo.name.replace(/\.\w+$/, "")}-${person + 1}-${side}.${format}`;
  }
}

const bytesOf = (url) => Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (byte) => byte.charCodeAt(0));

function save(file, name) {
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: name }).click();
}
