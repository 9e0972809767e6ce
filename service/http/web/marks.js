// The eyes marked over the photo: a frame around each, and a number for each person where there are several.
const TOUCH_PX = 24; // a finger's reach, for eyes that are small on the screen
const FRAME_PX = 14; // smaller squares are left bare: a frame would hide the eye
const NUMBER_PX = 22;
const PLACES = [[0, -1], [1, -1], [-1, -1], [1, 0], [-1, 0], [0, 1], [1, 1], [-1, 1]];

export class Marks {
  #stage;
  #size = [1, 1];
  #eyes = [];
  #chosen = new Set();

  constructor(stage, onChoose) {
    this.#stage = stage;
    stage.addEventListener("click", (event) => this.#chooseNear(event, onChoose));
    new ResizeObserver(() => this.#draw()).observe(stage);
  }

  /** Shows eyes in a photo of this size. */
  show(eyes, size) {
    this.#eyes = eyes;
    this.#size = size;
    this.#draw();
  }

  /** Lights up the eyes that faces were drawn from. */
  choose(eyes) {
    this.#chosen = new Set(eyes.map(nameOf));
    this.#draw();
  }

  get #scale() {
    return this.#stage.clientWidth / this.#size[0];
  }

  #draw() {
    for (const mark of this.#stage.querySelectorAll(".mark, .number")) mark.remove();
    const boxes = this.#eyes.map((eye) => this.#boxOf(eye));
    this.#eyes.forEach((eye, index) => boxes[index].side >= FRAME_PX && this.#frame(eye, boxes[index]));
    const people = new Set(this.#eyes.map((eye) => eye.person));
    if (people.size > 1) for (const person of people) this.#number(person, boxes);
  }

  #boxOf(eye) {
    const scale = this.#scale;
    return { x: (eye.x + 0.5) * scale, y: (eye.y + 0.5) * scale, side: eye.size_px * scale, person: eye.person };
  }

  #frame(eye, { x, y, side }) {
    const mark = this.#add(this.#chosen.has(nameOf(eye)) ? "mark chosen" : "mark", x, y);
    Object.assign(mark.style, { width: `${side}px`, height: `${side}px`, rotate: `${eye.roll_deg}deg` });
  }

  /** Puts a person's number beside their eyes, where it covers nobody's. */
  #number(person, boxes) {
    const own = boxes.filter((box) => box.person === person);
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [x, y, side] = ["x", "y", "side"].map((name) => mean(own.map((box) => box[name])));
    const places = [1, 1.5, 2, 3].flatMap((far) => PLACES.map(([right, down]) => ({
      x: x + right * far * (side * 1.6 + NUMBER_PX / 2),
      y: y + down * far * (side * 0.8 + NUMBER_PX / 2),
      side: NUMBER_PX,
    })));
    const isInside = (place) => [[place.x, this.#stage.clientWidth], [place.y, this.#stage.clientHeight]]
      .every(([at, most]) => at >= NUMBER_PX / 2 && at <= most - NUMBER_PX / 2);
    const place = places.find((each) => isInside(each) && !boxes.some((box) => overlap(box, each)));
    if (!place) return;
    boxes.push(place);
    this.#add("number", place.x, place.y).textContent = person + 1;
  }

  #add(look, x, y) {
    const mark = document.createElement("span");
    mark.className = look;
    mark.ariaHidden = "true";
    Object.assign(mark.style, { left: `${x}px`, top: `${y}px` });
    this.#stage.append(mark);
    return mark;
  }

  #chooseNear(event, onChoose) {
    const at = this.#stage.getBoundingClientRect();
    const [x, y] = [event.clientX - at.left, event.clientY - at.top];
    const reach = (eye) => {
      const box = this.#boxOf(eye);
      return Math.hypot(box.x - x, box.y - y) / Math.max(box.side, TOUCH_PX);
    };
    const [nearest] = [...this.#eyes].sort((one, other) => reach(one) - reach(other));
    if (nearest && reach(nearest) <= 1) onChoose(nearest);
  }
}

const nameOf = (eye) => `${eye.person} ${eye.side}`;

function overlap(one, other) {
  const near = (one.side + other.side) / 2;
  return Math.abs(one.x - other.x) < near && Math.abs(one.y - other.y) < near;
}
