// The last question as a program would ask it.
import { service } from "./ask.js";

const find = (id) => document.getElementById(id);
let programs = {};

const GUESSES = `
    for each in face.guesses:
        Path(f"face-{number}-guess-{each.guess}.png").write_bytes(each.image)`;

/** Offers the question that got this answer as curl and Python, and the answer as JSON. */
export function showProgram(answer, query) {
  programs = { curl: curlOf(query), Python: pythonOf(query), JSON: jsonOf(answer) };
  find("code").hidden = false;
  if (!find("languages").children.length) find("languages").append(...Object.keys(programs).map(choiceOf));
  show();
}

function choiceOf(language, index) {
  const label = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), {
    type: "radio", name: "language", value: language, checked: index === 0,
  });
  radio.addEventListener("change", show);
  label.append(radio, ` ${language}`);
  return label;
}

function show() {
  find("program").textContent = programs[find("languages").querySelector(":checked").value];
}

function curlOf(query) {
  const key = service.needs_key ? " -H 'X-API-Key: YOUR-KEY'" : "";
  const address = new URL(`synthesize?${new URLSearchParams(query)}`, document.baseURI);
  return `curl --fail-with-body -F image=@photo.jpg -H 'Accept: application/json'${key} \\\n  '${address}' -o faces.json`;
}

function pythonOf(query) {
  const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const key = service.needs_key ? ', key="YOUR-KEY"' : "";
  const options = Object.entries(query).map(([name, value]) => `, ${name}=${value === true ? "True" : JSON.stringify(value)}`).join("");
  return `from pathlib import Path

from eye2face import Client

with Client("${base}"${key}) as client:
    synthesis = client.synthesize_faces("photo.jpg"${options})
for number, face in enumerate(synthesis.faces):
    Path(f"face-{number}.png").write_bytes(face.image)${query.guesses > 1 ? GUESSES : ""}
`;
}

function jsonOf(answer) {
  const short = (key, value) => (key === "image" ? `${value.slice(0, 40)}…` : value);
  return JSON.stringify(answer, short, 2);
}

find("copy-program").hidden = !navigator.clipboard;
find("copy-program").addEventListener("click", async () => {
  await navigator.clipboard.writeText(find("program").textContent);
  find("copy-program").textContent = "Copied";
});
