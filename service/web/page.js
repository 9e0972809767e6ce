"use strict";

const find = (id) => document.getElementById(id);
const form = find("form");
const input = find("photo");
const drop = find("drop");

let photo = null;
let latest = 0; // answers of earlier requests that come late are not shown

function show(image, blob) {
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(blob);
}

function say(text) {
  find("status").textContent = text;
}

function showProblem(title, detail) {
  find("problem-title").textContent = title;
  find("problem-detail").textContent = detail;
  find("problem").hidden = false;
  say("");
}

function choose(file) {
  if (!file) return;
  photo = file;
  show(find("photo-shown"), file);
  find("pictures").hidden = false;
  synthesize();
}

async function synthesize() {
  if (!photo) return;
  const mine = ++latest;
  find("problem").hidden = true;
  find("face-figure").hidden = true;
  say("Looking for an eye and drawing a face …");
  try {
    const response = await send();
    if (mine !== latest) return;
    if (response.ok) await showFace(response, mine);
    else await explain(response);
  } catch {
    if (mine === latest) showProblem("No answer", "The service cannot be reached, or it stopped answering. Is it running?");
  }
}

function send() {
  const body = new FormData();
  body.append("image", photo);
  const headers = { Accept: "image/png" };
  if (find("key").value) headers["X-API-Key"] = find("key").value;
  const eye = new FormData(form).get("eye");
  return fetch(`/synthesize?eye=${eye}`, { method: "POST", body, headers });
}

async function showFace(response, mine) {
  const blob = await response.blob();
  if (mine !== latest) return;
  show(find("face"), blob);
  find("save").href = find("face").src;
  find("face-figure").hidden = false;
  say("Done. The face is a guess and no identification.");
}

async function explain(response) {
  const problem = await response.json();
  if (response.status === 401) {
    find("key-row").hidden = false;
    find("key").focus();
  }
  showProblem(problem.title, `${problem.detail} (${problem.code}, request ${problem.request_id})`);
}

input.addEventListener("change", () => choose(input.files[0]));
form.addEventListener("submit", (event) => { event.preventDefault(); synthesize(); });
for (const radio of form.elements.eye) radio.addEventListener("change", synthesize);

for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", (event) => {
  if (!drop.contains(event.relatedTarget)) drop.classList.remove("over");
});
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  choose(event.dataTransfer.files[0]);
});
// A photo dropped beside the box would replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
