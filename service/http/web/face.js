// The face, the crop that it was drawn from, and what is known of both.
const STAGES = {
  decode: "Read the photo",
  find: "Look for eyes",
  crop: "Cut out the eye",
  infer: "Draw the face",
  encode: "Write the file",
};
const QUALITIES = {
  size_px: ["Width", (px) => `${px.toFixed(0)} px`],
  sharpness: ["Sharpness", percent],
  light: ["Brightest part", percent],
  brightness: ["Mean brightness", percent],
  contrast: ["Contrast", percent],
  tilt_deg: ["Turn of the head", (deg) => `${deg.toFixed(0)}°`],
};

const find = (id) => document.getElementById(id);

export function hideFace() {
  find("outcome").hidden = true;
}

/** Leaves the last face where it is, dimmed, so that nothing on the page moves. */
export function awaitFace() {
  find("outcome").ariaBusy = "true";
}

/** Shows the first face of an answer of /synthesize; the crop is cut from the photo as the page shows it. */
export async function showFace({ faces: [face], refused, timings_ms }, photo) {
  const image = find("face");
  image.src = `data:image/${face.format};base64,${face.image}`;
  find("save").href = image.src;
  drawCrop(photo, face.eye);
  listRefused(refused);
  fill("quality", Object.entries(face.quality).map(([key, value]) => {
    const [name, write] = QUALITIES[key] ?? [key, String];
    return [name, write(value)];
  }));
  listTimings(timings_ms);
  await image.decode();
  find("outcome").hidden = false;
  find("outcome").ariaBusy = "false";
}

function drawCrop(photo, eye) {
  const canvas = find("crop");
  const pen = canvas.getContext("2d");
  const scale = canvas.width / eye.size_px;
  pen.reset();
  pen.imageSmoothingQuality = "high";
  pen.translate(canvas.width / 2, canvas.height / 2);
  pen.rotate((-eye.roll_deg * Math.PI) / 180);
  pen.scale(scale, scale);
  pen.drawImage(photo, -eye.x - 0.5, -eye.y - 0.5);
}

function listRefused(refused) {
  find("refused").hidden = refused.length === 0;
  find("refusals").replaceChildren(...refused.map(({ eye, detail }) => {
    const line = document.createElement("li");
    line.textContent = `The ${eye.side} eye. ${detail}`;
    return line;
  }));
}

function listTimings(timings_ms) {
  const all = Object.values(timings_ms).reduce((sum, each) => sum + each, 0);
  const rows = Object.entries(timings_ms).map(([stage, ms]) => [STAGES[stage] ?? stage, `${ms.toFixed(1)} ms`, ms / all]);
  fill("timings", [...rows, ["All of it", `${all.toFixed(1)} ms`]]);
}

/** One row for each name and value; a third part between 0 and 1 becomes a bar. */
function fill(table, rows) {
  find(table).tBodies[0].replaceChildren(...rows.map(([name, value, part]) => {
    const row = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    row.append(head, Object.assign(document.createElement("td"), { textContent: value }));
    if (part !== undefined) {
      const meter = Object.assign(document.createElement("meter"), { value: part });
      meter.setAttribute("aria-hidden", "true"); // the number beside it says it
      row.insertCell().append(meter);
    }
    return row;
  }));
}

function percent(part) {
  return `${Math.round(part * 100)} %`;
}
