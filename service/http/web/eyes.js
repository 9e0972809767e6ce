// The found eyes: drawn over the photo, and offered for choice. Centres are of pixels, so 0.5 leads from an
// eye's place to the drawing's.
const SVG = "http://www.w3.org/2000/svg";
const TOUCH_PX = 24; // a finger's reach, for eyes that are small on the screen

/** The eye in words; the person is named where there are several. */
export function nameOf(eye, numPeople) {
  return `${eye.side} eye${numPeople > 1 ? ` of person ${eye.person + 1}` : ""}`;
}

export class Eyes {
  #parts;
  #eyes = [];
  #chosen = null;

  constructor({ svg, fieldset, list, onChoose }) {
    this.#parts = { svg, fieldset, list, onChoose };
    svg.addEventListener("click", (event) => this.#chooseNear(event));
  }

  /** Whether all eyes of the photo are listed. */
  get known() {
    return this.#eyes.length > 0;
  }

  get numPeople() {
    return new Set(this.#eyes.map((eye) => eye.person)).size;
  }

  clear() {
    this.#eyes = [];
    this.#chosen = null;
    this.#draw();
    this.#offer();
  }

  fit(width, height) {
    this.#parts.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }

  /** Shows the eye that the face was drawn from. */
  mark(eye) {
    this.#chosen = eye;
    this.#draw();
    for (const radio of this.#parts.list.querySelectorAll("input")) {
      radio.checked = isSame(this.#eyes[radio.value], eye);
    }
  }

  list(eyes) {
    this.#eyes = eyes;
    this.#draw();
    this.#offer();
  }

  #draw() {
    const isListed = this.#eyes.some((eye) => isSame(eye, this.#chosen));
    const all = isListed || !this.#chosen ? this.#eyes : [...this.#eyes, this.#chosen];
    this.#parts.svg.replaceChildren(...all.flatMap((eye) => this.#marksOf(eye)));
  }

  #marksOf(eye) {
    const look = isSame(eye, this.#chosen) ? "chosen" : "found";
    const half = eye.size_px / 2;
    const square = { x: -half, y: -half, width: eye.size_px, height: eye.size_px };
    const transform = `translate(${eye.x + 0.5} ${eye.y + 0.5}) rotate(${eye.roll_deg})`;
    const marks = ["edge", look].map((name) => element("rect", { ...square, transform, class: name }));
    if (this.numPeople > 1 && this.#eyes.find((each) => each.person === eye.person) === eye) {
      const place = { x: eye.x, y: eye.y - half * 1.2, "font-size": eye.size_px * 0.7, class: "number" };
      const number = element("text", place);
      number.textContent = eye.person + 1;
      marks.push(number);
    }
    return marks;
  }

  #offer() {
    this.#parts.list.replaceChildren(...this.#eyes.map((eye, index) => this.#choiceOf(eye, index)));
    this.#parts.fieldset.hidden = !this.known;
  }

  #choiceOf(eye, index) {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "eye", value: index });
    radio.checked = isSame(eye, this.#chosen);
    radio.addEventListener("change", () => this.#parts.onChoose(eye));
    label.append(radio, ` ${nameOf(eye, this.numPeople)}, ${Math.round(eye.size_px)} px wide`);
    return label;
  }

  #chooseNear(event) {
    const { svg, list } = this.#parts;
    const scale = svg.viewBox.baseVal.width / svg.clientWidth;
    const at = { x: event.offsetX * scale, y: event.offsetY * scale };
    const reach = (eye) => Math.hypot(eye.x - at.x, eye.y - at.y) / Math.max(eye.size_px, TOUCH_PX * scale);
    const [nearest] = [...this.#eyes].sort((one, other) => reach(one) - reach(other));
    if (nearest && reach(nearest) <= 1) list.querySelectorAll("input")[this.#eyes.indexOf(nearest)].click();
  }
}

function isSame(eye, other) {
  return Boolean(other) && eye.person === other.person && eye.side === other.side;
}

function element(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
