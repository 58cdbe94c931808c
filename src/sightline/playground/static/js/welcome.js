// What is seen before the first message: a sentence, and three pictures to try.

import { h } from "./element.js";
import { t } from "./language.js";

const EXAMPLES = [
  { file: "shapes.png", question: "example_shapes" },
  { file: "circle.png", question: "example_circle" },
  { file: "number.png", question: "example_number" },
];

/** `onExample(file, question)` gets a File. */
export function welcome(onExample) {
  const choose = async ({ file, question }) => {
    const response = await fetch(addressOf(file));
    onExample(new File([await response.blob()], file, { type: "image/png" }), t(question));
  };
  return h(
    "section",
    { class: "welcome" },
    h("h1", {}, t("welcome")),
    h("p", { class: "muted" }, t("welcome_how")),
    h(
      "ul",
      { class: "examples" },
      EXAMPLES.map((example) =>
        h(
          "li",
          {},
          h(
            "button",
            { class: "example", type: "button", onclick: () => choose(example) },
            h("img", { src: addressOf(example.file), alt: "", width: 120, height: 120 }),
            h("span", {}, t(example.question)),
          ),
        ),
      ),
    ),
  );
}

function addressOf(file) {
  return new URL(`../examples/${file}`, import.meta.url).href;
}
