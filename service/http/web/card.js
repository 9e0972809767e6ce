// One person's card: the eye, the faces that were drawn from it, how well the eye is seen, and the other eye.
import { service } from "./ask.js";
import { drawCrop } from "./crop.js";
import { choicesOf, guessesOf, manyOf, wanted } from "./guesses.js";
import { explain, firstMissed, geometry, judge, tellCertainty, timings } from "./words.js";
import { saveZip } from "./zip.js";

const SURE = 0.9; // an eye of a lower score is looked at before its face is shown; 98 in 100 eyes have more

export class Card {
  #parts;
  #person;
  #onChoose;
  #eyes = [];
  #eye; // the one that the faces are drawn from
  #guesses = [];
  #large; // the guess that is shown large
  #isUnfound = false;
  #seed = 0;

  constructor(person, onChoose) {
    [this.#person, this.#onChoose] = [person, onChoose];
    this.element = copyOf("card");
    const find = (selector) => this.element.querySelector(selector);
    this.#parts = {
      title: find("h2"),
      eye: find(".eye canvas"),
      faces: find(".faces"),
      told: find(".told"),
      guesses: find(".guesses"),
      many: find(".many"),
      warning: find(".warning"),
      wipe: find(".wipe input"),
      choice: find(".choice"),
      quality: find(".quality"),
      tables: find(".tables"),
    };
    const { wipe, warning } = this.#parts;
    wipe.addEventListener("input", () => this.element.style.setProperty("--face", wipe.value / 100));
    warning.querySelector("button").addEventListener("click", () => this.#trust());
    this.#listenForMany();
    this.setTitle(1);
    this.#setLook("empty");
  }

  setTitle(numPeople) {
    this.#parts.title.textContent = numPeople > 1 ? `Person ${this.#person + 1}` : "The face";
    this.#parts.title.className = numPeople > 1 ? "" : "unseen";
  }

  /** Offers the eyes that were found of this person. */
  setEyes(eyes) {
    this.#eyes = eyes;
    const chosen = this.#parts.choice.querySelector(":checked")?.value;
    this.#parts.choice.querySelectorAll("label").forEach((label) => label.remove());
    this.#parts.choice.append(...eyes.map((eye) => this.#choiceOf(eye)));
    if (chosen) this.#check(chosen);
    if (!this.element.matches(".drawn-from")) this.#listQuality(eyes[0]?.quality);
  }

  /** Leaves the last face where it is, dimmed, so that nothing on the page moves. */
  await() {
    this.element.ariaBusy = "true";
  }

  /** Whether the face is held back until somebody has looked at the eye. */
  get isDoubted() {
    return this.element.matches(".doubted");
  }

  /** The eye as it is shown, and its guesses. */
  get pictures() {
    return { eye: this.#parts.eye.toDataURL(), guesses: this.#guesses };
  }

  /** What is asked to draw from an eye of this person, as often as was chosen. */
  queryOf(eye) {
    const base = this.#isUnfound ? { input: "eye" } : { person: eye.person };
    const number = this.#parts.many.querySelector(":checked").value;
    return { ...base, eye: eye.side, ...manyOf(Number(number), this.#seed) };
  }

  /** Shows the guesses that were drawn from one eye, the default one large. */
  async show(face, { timings_ms, query }, photo) {
    const { eye, quality } = face;
    [this.#eye, this.#isUnfound] = [eye, query.input === "eye"];
    [this.#guesses, this.#seed] = [guessesOf(face), query.seed ?? 0];
    drawCrop(this.#parts.eye, photo, eye);
    await this.#enlarge(this.#guesses[0]);
    this.#listGuesses();
    this.#parts.told.textContent = tellCertainty(face);
    if (this.#eyes.length === 0) this.setEyes([{ ...eye, quality }]);
    this.#check(eye.side);
    this.#listQuality(quality);
    this.#parts.tables.replaceChildren(
      tableOf("The eye", geometry(face)), tableOf("How long it took, all people together", timings(timings_ms)),
    );
    this.#warn(eye.score, this.#isUnfound);
    this.element.ariaBusy = "false";
  }

  async #enlarge(guess) {
    this.#large = guess;
    const figure = figureOf(guess, this.#guesses, this.#eye, this.#parts.eye);
    await figure.querySelector("img").decode();
    if (this.#large === guess) this.#parts.faces.replaceChildren(figure);
  }

  #listGuesses() {
    const { guesses, many } = this.#parts;
    const number = this.#guesses.length;
    guesses.replaceChildren(guesses.firstElementChild, ...choicesOf(this.#guesses, `guess-${this.#person}`, (guess) => this.#enlarge(guess)));
    for (const radio of many.querySelectorAll("input")) radio.checked = Number(radio.value) === number;
    guesses.hidden = number === 1;
    many.querySelector("button").hidden = number === 1;
  }

  #listenForMany() {
    for (const radio of this.#parts.many.querySelectorAll("input")) {
      [radio.name, radio.checked] = [`many-${this.#person}`, Number(radio.value) === wanted.guesses];
      radio.addEventListener("change", () => {
        wanted.guesses = Number(radio.value);
        this.#onChoose(this.#eye);
      });
    }
    this.#parts.many.querySelector("button").addEventListener("click", () => {
      this.#seed += 1;
      this.#onChoose(this.#eye);
    });
  }

  /** Says why there is no face, and shows the eye. */
  refuse(code, eye, photo) {
    drawCrop(this.#parts.eye, photo, eye);
    const [title, advice] = explain({ code });
    this.#say(`${title}: no face is drawn from it. ${advice}`);
    this.#setLook("empty");
    this.element.ariaBusy = "false";
  }

  /** Says why nothing was drawn of a person whose eyes are known. */
  leaveOut(photo) {
    const [eye] = this.#eyes;
    const missed = firstMissed(eye.quality);
    if (missed && this.#eyes.every((each) => firstMissed(each.quality))) this.refuse(missed.code, eye, photo);
    else {
      drawCrop(this.#parts.eye, photo, eye);
      this.#say("More people are in the photo than are drawn at once. Choose an eye to draw this one.");
    }
  }

  #warn(score, isUnfound) {
    const isDoubted = service.scores_are_probabilities && score < SURE && !isUnfound;
    this.#setLook(isDoubted ? "doubted" : "drawn-from");
    if (isUnfound) {
      this.#say("No eye was found here. The face was drawn from the middle of your picture, whatever it shows.");
    } else if (isDoubted) {
      this.#say(`Is this an eye? The finder is only ${Math.floor(score * 100)} % sure. A face drawn from anything else would mean nothing.`);
    } else {
      this.#say("");
    }
  }

  /** Shows the face that was held back. */
  #trust() {
    this.#say("");
    this.#setLook("drawn-from");
    this.onTrust();
  }

  #say(text) {
    this.#parts.warning.hidden = !text;
    this.#parts.warning.firstElementChild.textContent = text;
  }

  /** One of: empty (no face), doubted (a face that is held back), drawn-from. */
  #setLook(look) {
    this.element.className = `card person ${look}`;
    this.#parts.warning.querySelector("button").hidden = look !== "doubted";
  }

  #check(side) {
    for (const radio of this.#parts.choice.querySelectorAll("input")) radio.checked = radio.value === side;
  }

  #choiceOf(eye) {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), {
      type: "radio", name: `eye-${this.#person}`, value: eye.side,
    });
    radio.addEventListener("change", () => this.#onChoose(eye));
    const missed = firstMissed(eye.quality);
    radio.disabled = Boolean(missed);
    label.append(radio, ` ${eye.side} eye${missed ? `: ${missed.bad}` : ""}`);
    return label;
  }

  #listQuality(quality) {
    this.#parts.quality.replaceChildren(...(quality ? judge(quality) : []).map(({ missed, text }) =>
      Object.assign(document.createElement("li"), { textContent: text, className: missed ? "missed" : "met" })));
  }
}

function copyOf(template) {
  return document.importNode(document.getElementById(template).content, true).firstElementChild;
}

/** A face, with the eye at its place behind it, and what can be done with it. */
function figureOf({ src, file }, guesses, { side }, crop) {
  const figure = copyOf("face");
  const [image, eye] = [figure.querySelector("img"), figure.querySelector("canvas")];
  image.src = src;
  eye.className = side;
  eye.getContext("2d").drawImage(crop, 0, 0);
  const [save, copy, all] = figure.querySelectorAll("a, button");
  save.href = src;
  save.download = `face-${file}`;
  copy.hidden = !navigator.clipboard?.write; // browsers offer it to local pages and over HTTPS
  copy.addEventListener("click", async () => {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": pngOf(image) })]);
    copy.textContent = "Copied";
  });
  all.hidden = guesses.length === 1;
  all.textContent = `All ${guesses.length} (zip)`;
  all.addEventListener("click", () => saveZip(guesses.map((each) => [`face-${each.file}`, each.src]), "faces.zip"));
  return figure;
}

function pngOf(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return new Promise((take) => canvas.toBlob(take, "image/png"));
}

function tableOf(name, rows) {
  const table = document.createElement("table");
  table.createCaption().textContent = name;
  for (const [label, value] of rows) {
    const row = table.insertRow();
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: label }));
    row.insertCell().textContent = value;
  }
  return table;
}
