// Sentences for the person at the page.
import { service } from "./ask.js";

const LATER = "Try again in a moment.";
const DAMAGED = "The file is damaged or incomplete. Try another copy of it.";
const PROBLEMS = {
  unreachable: ["No answer", "The service cannot be reached, or it stopped answering. Is it running?"],
  camera: ["No camera", "The browser cannot use it. Choose a photo instead."],
  unauthorized: ["A key is needed", "The service does not know this key. Ask whoever runs it for one."],
  no_eye_found: ["No eye found", "Try a photo with an uncovered eye that looks at the camera, taken from nearer."],
  eye_too_small: ["The eye is too small", "Try a photo that was taken from nearer, or has more pixels."],
  eye_too_dark: ["The eye is too dark", "Try a photo with more light on the face."],
  eye_too_blurred: ["The eye is too blurred", "Try a photo that is in focus and was taken without motion."],
  empty_body: ["The file is empty", "Choose another photo."],
  not_an_image: ["This is no photo", "The file holds no picture that can be read. Choose a photo."],
  unsupported_format: [
    "This kind of picture cannot be read",
    "Save it as JPEG or PNG; an iPhone takes JPEG photos with Settings, Camera, Formats, Most Compatible.",
  ],
  unsupported_to_verify: [
    "This kind of picture cannot be read",
    "Faces are drawn as PNG, JPEG or WebP files: choose the original. In a copy saved as PNG, the watermark may still be found.",
  ],
  image_corrupt: ["The picture is damaged", DAMAGED],
  image_too_small: ["The picture is too small", "It has too few pixels. Choose a larger one."],
  image_too_large: ["The picture is too large", "It has more pixels than this service reads. Save a smaller copy."],
  upload_too_large: ["The file is too large", "It has more bytes than this service takes. Save a smaller copy."],
  upload_too_slow: ["The upload took too long", "Try a smaller copy of the photo, or a faster connection."],
  rate_limited: ["Too many photos", "You have sent more photos than the service allows for a minute. Wait a little."],
  too_many_requests: ["Too many photos at once", LATER],
  overloaded: ["The service is busy", LATER],
  deadline_exceeded: ["The service is busy", LATER],
  not_ready: ["The service is starting", LATER],
  not_local: ["Only from its own machine", "The service takes photos only from pages on the machine that it runs on."],
};
const FAILED = ["The service failed", "The photo may be fine. Try again; if it goes on, tell whoever runs the service."];
const REFUSED = ["The service did not take this photo", "Try another one."];

/** Title and advice for a code of the service or the page. */
export function explain({ code, status = 0 }) {
  return PROBLEMS[code] ?? (status >= 500 ? FAILED : REFUSED);
}

const percent = (part) => Math.floor(part * 100 + 1e-6);
const MEASURES = [
  ["size_px", "eye_too_small", "large enough", "too small", "px", Math.floor],
  ["light", "eye_too_dark", "bright enough", "too dark", "%", percent],
  ["sharpness", "eye_too_blurred", "sharp enough", "too blurred", "%", percent],
];

/** What is measured of an eye against what the service asks for, each with the code of what is missed. */
export function judge(quality) {
  return MEASURES.map(([name, code, good, bad, unit, round]) => {
    const least = service.thresholds[name];
    const isMet = quality[name] >= least;
    const needed = least ? `, needed ${unit === "%" ? Number((least * 100).toFixed(1)) : least} ${unit}` : "";
    const text = `${isMet ? good : bad} (${round(quality[name])} ${unit}${needed})`;
    return { missed: isMet ? null : { code, bad }, text };
  });
}

/** The first that is missed by an eye of this quality. */
export function firstMissed(quality) {
  return judge(quality).find(({ missed }) => missed)?.missed;
}

/** How much of the face the eye tells, and how far the guesses are apart. */
export function tellCertainty({ certainty, spread }) {
  const much = ["very little", "little", "something"][Math.min(Math.floor(certainty * 3), 2)];
  const told = `This eye tells ${much} of the face`;
  if (spread === undefined) return `${told}: most of it is guessed.`;
  // Of held-out people four in five have a spread of 28 and more.
  return `${told}: the guesses differ ${spread < 15 ? "a little" : spread < 28 ? "visibly" : "widely"}.`;
}

const STAGES = {
  decode: "Read the photo",
  find: "Look for eyes",
  crop: "Cut out the eyes",
  infer: "Draw the faces",
  encode: "Write the files",
};

/** Rows of the time that each step took. */
export function timings(timings_ms) {
  const rows = Object.entries(timings_ms).map(([stage, ms]) => [STAGES[stage] ?? stage, `${ms.toFixed(1)} ms`]);
  const all = Object.values(timings_ms).reduce((sum, ms) => sum + ms, 0);
  return [...rows, ["All of it", `${all.toFixed(1)} ms`]];
}

/** Rows of where the eye is, how it is seen, and what it tells. */
export function geometry({ eye, quality, certainty, spread }) {
  const apart = spread === undefined ? [] : [["Guesses apart", `${spread.toFixed(1)} of 255`]];
  return [
    ["Center", `${eye.x.toFixed(0)}, ${eye.y.toFixed(0)} px`],
    ["Width", `${eye.size_px.toFixed(1)} px`],
    ["Turn of the head", `${eye.roll_deg.toFixed(0)}°`],
    ["Sure that it is an eye", `${percent(eye.score)} %`],
    ["Mean brightness", `${percent(quality.brightness)} %`],
    ["Contrast", `${percent(quality.contrast)} %`],
    ["Told of the face", `${percent(certainty)} %`],
    ...apart,
  ];
}

const VERDICTS = {
  signed_here: ["It was signed here", "Its signature is from a certificate that this service trusts, and nothing was changed since."],
  tampered: [
    "It was changed, or its signature is another picture’s",
    "It holds a signature that does not fit it. Anybody can add such a signature to a picture.",
  ],
  bears_our_mark: [
    "It bears our watermark",
    "It was probably drawn here. A watermark can be put on other pictures, too: it is no proof.",
  ],
  claims_to_be_synthetic: ["It says that it was made by AI", "Its file says so, whatever made it. Anybody can write that."],
  nothing_found: [
    "No mark was found",
    "It may be a face all the same: marks can be removed, and a picture that is smaller than 64 pixels, blurred or turned loses the watermark.",
  ],
};

/** A verdict of the service, and what it means. */
export function meaningOf(verdict) {
  return VERDICTS[verdict] ?? [verdict, ""];
}

const SIGNATURES = {
  none: "None",
  unchecked: "One that this service cannot check",
  invalid: "Does not fit the picture",
  valid: "Fits, but is from a certificate that this service does not know",
  trusted: "Fits, and is from a certificate that this service trusts",
};
const CONFIDENCES = {
  weak: "Anybody could have made it so.",
  strong: "Others could have made it so only with effort.",
  proof: "Nobody could have made it so without the private key.",
};

/** Name of each kind of mark, and what was found of it. */
export function layersOf({ signature, watermark, metadata }) {
  const { found, score, threshold } = watermark;
  const by = [metadata.system && `by ${metadata.system}`, metadata.created && `on ${metadata.created.slice(0, 10)}`];
  return [
    ["Signature (C2PA)", SIGNATURES[signature.state] ?? signature.state, signature],
    ["Watermark", `${found ? "Found" : "Not found"} (score ${score.toFixed(1)}, needed ${threshold})`, watermark],
    ["Metadata", metadata.says_synthetic ? ["AI-generated", ...by].filter(Boolean).join(" ") : "Nothing about AI", metadata],
  ].map(([name, told, { confidence }]) => [name, [told, CONFIDENCES[confidence]].filter(Boolean).join(". ")]);
}
