// The faces that one eye allows: how many are asked for, those of an answer, and their pictures to choose from.

/** How many faces are drawn from each eye of the next photo. */
export const wanted = { guesses: 4 };

/** What is asked of the service to get so many guesses; all bear the letters "AI", as they may be downloaded. */
export const manyOf = (guesses, seed = 0) => ({ label: true, ...(guesses > 1 ? { guesses, seed } : {}) });

/** Every guess of an answer's face, the default first: its picture, the name of its file, and its own name. */
export function guessesOf({ image, format, eye, guesses = [] }) {
  const address = (data) => `data:image/${format};base64,${data}`;
  const file = `${eye.person + 1}-${eye.side}`;
  const others = guesses.map(({ guess, seed, image }) => ({
    src: address(image), file: `${file}-guess-${guess}-seed-${seed}.${format}`, name: `Guess ${guess}`,
  }));
  return [{ src: address(image), file: `${file}.${format}`, name: "Default guess" }, ...others];
}

/** A small picture of each guess, the first chosen. */
export function choicesOf(guesses, group, onChoose) {
  return guesses.map((guess, index) => {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), {
      type: "radio", name: group, className: "unseen", checked: index === 0,
    });
    radio.addEventListener("change", () => onChoose(guess));
    label.append(radio, Object.assign(document.createElement("img"), { src: guess.src, alt: guess.name }));
    return label;
  });
}
