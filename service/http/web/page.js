// The page from a photo to its faces. What is asked of the service stands in ask.js; what is shown of a person
// in card.js, over the photo in marks.js; where photos come from in sources.js and camera.js; the other tab is
// in verify.js.
import { apiKey, ask, Problem, service } from "./ask.js";
import { offerCamera } from "./camera.js";
import { Card } from "./card.js";
import { drawMiddle } from "./crop.js";
import { manyOf, wanted } from "./guesses.js";
import { History } from "./history.js";
import { Marks } from "./marks.js";
import { showProgram } from "./program.js";
import { convert, listenForPhotos } from "./sources.js";
import { isVerifying, verify } from "./verify.js";
import { explain } from "./words.js";

const find = (id) => document.getElementById(id);
const shown = find("photo-shown");
const marks = new Marks(find("stage"), choose);
const history = new History({ find, onOpen: start });

const SMALL_PX = 320; // photos of fewer pixels are shown enlarged

let photo = null;
let cards = new Map(); // by person
let chosen = new Map(); // the eye of each person's face
let latest = 0; // answers to earlier questions that come late are not shown
let again = () => {}; // asks the last question once more

function start(file) {
  photo = file;
  latest += 1;
  clearProblem();
  if (shown.src) URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(file);
  again = () => draw({ person: "all", ...manyOf(wanted.guesses) });
  if (service.needs_key && !apiKey.get()) askForKey("Your photo is sent once you have entered a key.");
  else again();
}

/** Tells on the other tab which marks a picture bears. */
async function check(picture) {
  again = () => check(picture);
  clearProblem();
  say("Looking for marks …");
  try {
    const verdict = await verify(picture);
    if (verdict) say(`Done: ${verdict}.`);
  } catch (problem) {
    if (problem.code === "unsupported_format") problem.code = "unsupported_to_verify";
    showProblem(problem);
  }
}

/** Asks for the faces first and for all eyes after it: a slow line then carries one photo before the faces. */
async function draw(query) {
  const mine = ++latest;
  const current = () => mine === latest;
  clearProblem();
  say("Looking for eyes and drawing …");
  find("result").ariaBusy = "true";
  for (const card of cards.values()) card.await();
  try {
    const [answer] = await Promise.all([ask("synthesize", query, photo), decodePhoto()]);
    if (!current()) return;
    await showAnswer(answer, query);
  } catch (problem) {
    if (!current()) return;
    if (problem.code === "unsupported_format") return startConverted(problem, current);
    if (problem.code === "invalid_parameter" && query.guesses) return draw({ person: "all", ...manyOf(1) }); // too many people
    dropCards();
    if (problem.isOfAnEye) say(`No face: ${explain(problem)[0].toLowerCase()}.`);
    else showProblem(problem);
    if (problem.code === "no_eye_found") await offerMiddle();
    if (!problem.isOfAnEye) return;
  }
  if (query.input !== "eye") await listEyes(current);
  if (current()) find("result").ariaBusy = "false";
}

async function showAnswer(answer, query) {
  dropCards();
  await Promise.all(answer.faces.map((face) => showFace(cardOf(face.eye.person), face, answer, query)));
  nameCards();
  marks.show(query.input === "eye" ? [] : [...chosen.values()], sizeOfPhoto());
  showResult();
  showProgram(answer, query);
  if (cards.size > 1) say(`Done: ${cards.size} people. Their faces are guesses and no identification.`);
  else sayOne(answer.faces[0].eye);
}

async function showFace(card, face, { timings_ms }, query) {
  const [file, { eye }] = [photo, face];
  await card.show(face, { timings_ms, query }, shown);
  chosen.set(eye.person, eye);
  const list = () => history.add(file, card.pictures);
  if (!card.isDoubted) return list();
  card.onTrust = () => {
    list();
    sayOne(eye);
  };
}

function sayOne(eye) {
  if (cards.get(eye.person).isDoubted) say("Something was found that may be an eye: look at it first.");
  else say(`Done: a face drawn from the ${nameOf(eye)}. It is a guess and no identification.`);
}

const nameOf = (eye) => `${eye.side} eye${cards.size > 1 ? ` of person ${eye.person + 1}` : ""}`;

/** Draws one person again: from another eye, or other guesses. */
async function choose(eye) {
  const card = cards.get(eye.person);
  const mine = (card.latest = Symbol());
  const whole = latest;
  const current = () => whole === latest && card.latest === mine;
  again = () => choose(eye);
  clearProblem();
  card.await(eye.side);
  try {
    const query = card.queryOf(eye);
    const answer = await ask("synthesize", query, photo);
    if (!current()) return;
    await showFace(card, answer.faces[0], answer, query);
    marks.choose([...chosen.values()]);
    showProgram(answer, query);
    sayOne(eye);
  } catch (problem) {
    if (!current()) return;
    if (problem.isOfAnEye) card.refuse(problem.code, eye, shown);
    else showProblem(problem);
  }
}

async function listEyes(current) {
  try {
    const answer = await ask("eyes", {}, photo);
    if (!current()) return;
    for (const [person, eyes] of Map.groupBy(answer.eyes, (eye) => eye.person)) {
      const card = cardOf(person);
      card.setEyes(eyes);
      if (!chosen.has(person)) card.leaveOut(shown);
    }
    nameCards();
    marks.show(answer.eyes, [answer.width, answer.height]);
    marks.choose([...chosen.values()]);
    showResult();
  } catch (problem) {
    if (current()) showProblem(problem);
  }
}

/** The card of a person, made if there is none, in the order of their numbers. */
function cardOf(person) {
  if (!cards.has(person)) {
    const card = new Card(person, choose);
    const next = Math.min(...[...cards.keys()].filter((other) => other > person));
    find("result").insertBefore(card.element, cards.get(next)?.element ?? find("photo-card"));
    cards.set(person, card);
  }
  return cards.get(person);
}

function nameCards() {
  for (const card of cards.values()) card.setTitle(cards.size);
}

function dropCards() {
  for (const card of cards.values()) card.element.remove();
  cards = new Map();
  chosen = new Map();
  marks.show([], [1, 1]);
  find("result").hidden = true;
}

function showResult() {
  const isFirst = find("result").hidden;
  find("result").hidden = false;
  document.body.classList.add("has-result");
  if (isFirst) find("drop").scrollIntoView({ block: "start" });
}

async function decodePhoto() {
  await shown.decode().catch(() => {}); // what is wrong with it the service tells better
  const [width, height] = sizeOfPhoto();
  shown.classList.toggle("small", width < SMALL_PX && height < 2 * width);
}

const sizeOfPhoto = () => [shown.naturalWidth, shown.naturalHeight];

async function startConverted(problem, current) {
  const jpeg = await convert(photo);
  if (!current()) return;
  if (jpeg) start(jpeg);
  else showProblem(problem);
}

async function offerMiddle() {
  await decodePhoto();
  drawMiddle(find("middle"), shown);
  find("closer").hidden = false;
}

function say(text) {
  find("status").textContent = text;
}

function showProblem(problem) {
  if (!(problem instanceof Problem)) throw problem;
  say("");
  if (problem.code === "unauthorized") {
    apiKey.forget();
    return askForKey(explain(problem)[1]);
  }
  const [title, advice] = explain(problem);
  const told = [["strong", title], ["span", advice]].map(([tag, text]) => element(tag, text));
  find("problem").replaceChildren(...told, ...detailsOf(problem));
  find("retry").hidden = !problem.mayPass;
}

/** What the operator of the service may want to know. */
function detailsOf({ code, detail, request_id }) {
  if (!request_id) return [];
  const details = document.createElement("details");
  details.append(element("summary", "Details"), element("small", `${detail} (${code}, request ${request_id})`));
  return [details];
}

function element(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

function clearProblem() {
  find("problem").replaceChildren();
  find("retry").hidden = find("closer").hidden = true;
}

function askForKey(why) {
  say(why);
  find("key-form").hidden = false;
  find("key").focus();
}

listenForPhotos({
  inputs: [find("photo"), find("capture"), find("picture")],
  examples: find("examples").querySelectorAll("img"),
  onPhoto: (file) => (isVerifying() ? check(file) : start(file)),
});
offerCamera({ find, onPhoto: start, onProblem: showProblem });
find("retry").addEventListener("click", () => again());
find("as-eye").addEventListener("click", () => {
  again = () => draw({ input: "eye", ...manyOf(wanted.guesses) });
  again();
});
function showTab() {
  clearProblem();
  say("");
  document.body.classList.toggle("verifying", isVerifying());
  for (const tab of document.querySelectorAll(".tabs a")) {
    tab.ariaCurrent = (tab.hash === "#verify") === isVerifying() ? "page" : "false";
  }
  find("key-form").hidden = isVerifying() || !service.needs_key || Boolean(apiKey.get());
}

window.addEventListener("hashchange", showTab);
showTab();
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey.keep(find("key").value);
  find("key-form").hidden = true;
  say("");
  again();
});
