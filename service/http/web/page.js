// The page from a photo to its face. What is asked of the service stands in ask.js; what is shown of its
// answers in eyes.js and face.js; where photos come from in sources.js and camera.js.
import { ask, Problem } from "./ask.js";
import { offerCamera } from "./camera.js";
import { Eyes, nameOf } from "./eyes.js";
import { awaitFace, hideFace, showFace } from "./face.js";
import { listenForPhotos } from "./sources.js";

const find = (id) => document.getElementById(id);
const shown = find("photo-shown");
const eyes = new Eyes({ svg: find("marks"), fieldset: find("choice"), list: find("choices"), onChoose: choose });

let photo = null;
let question = {};
let latest = 0; // answers to earlier questions that come late are not shown

function start(file) {
  photo = file;
  eyes.clear();
  hideFace();
  find("result").hidden = true;
  if (shown.src) URL.revokeObjectURL(shown.src);
  shown.src = URL.createObjectURL(file);
  draw({});
}

function choose(eye) {
  eyes.mark(eye);
  draw({ person: eye.person, eye: eye.side });
}

/** Asks for the face first and for all eyes after it: a slow line then carries one photo before the face. */
async function draw(query) {
  question = query;
  const mine = ++latest;
  const current = () => mine === latest;
  clearProblem();
  awaitFace();
  say("Looking for an eye and drawing a face …");
  try {
    const asked = ask("synthesize", query, photo, find("key").value);
    const [answer] = await Promise.all([asked, showPhoto()]);
    if (!current()) return;
    const [face] = answer.faces;
    eyes.mark(face.eye);
    await showFace(answer, shown);
    if (!eyes.known) find("result").scrollIntoView({ block: "nearest" }); // its top, where it is too long
    find("key-form").hidden = true;
    say(`Done: a face drawn from the ${nameOf(face.eye, eyes.numPeople)}. It is a guess and no identification.`);
  } catch (problem) {
    if (!current()) return;
    hideFace();
    showProblem(problem);
    if (!problem.isOfAnEye) return;
  }
  if (!eyes.known && query.input !== "eye") await listEyes(current);
}

async function showPhoto() {
  if (!find("result").hidden) return;
  try {
    await shown.decode();
    eyes.fit(shown.naturalWidth, shown.naturalHeight);
    find("result").hidden = false;
  } catch {
    // No picture that this browser can show: what is wrong with it the service tells better.
  }
}

async function listEyes(current) {
  try {
    const answer = await ask("eyes", {}, photo, find("key").value);
    if (current()) eyes.list(answer.eyes);
  } catch (problem) {
    if (current()) showProblem(problem);
  }
}

function say(text) {
  find("status").textContent = text;
}

function showProblem(problem) {
  if (!(problem instanceof Problem)) throw problem;
  say("");
  const told = [["strong", problem.title], ["span", problem.detail], ["small", problem.reference]];
  find("problem").replaceChildren(...told.filter(([, text]) => text).map(([tag, text]) => {
    const part = document.createElement(tag);
    part.textContent = text;
    return part;
  }));
  find("retry").hidden = !problem.mayPass;
  find("as-eye").hidden = problem.code !== "no_eye_found";
  if (problem.code === "unauthorized") {
    find("key-form").hidden = false;
    find("key").focus();
  }
}

function clearProblem() {
  find("problem").replaceChildren();
  find("retry").hidden = find("as-eye").hidden = true;
}

listenForPhotos({ drop: find("drop"), inputs: [find("photo"), find("capture")], onPhoto: start });
offerCamera({ find, onPhoto: start, onProblem: showProblem });
find("retry").addEventListener("click", () => draw(question));
find("as-eye").addEventListener("click", () => draw({ input: "eye" }));
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  draw(question);
});
