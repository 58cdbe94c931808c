// Making elements. Text is always text: nothing here reads HTML.

/** `h("button", { class: "quiet", onclick: f, "aria-label": "Copy" }, icon, "Copy")`
 *
 * Properties that begin with "on" are listeners, `dataset` and `style` are objects, true and false
 * set or leave out an attribute. Children that are null or false are left out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) set(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

function set(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "dataset") Object.assign(element.dataset, value);
  else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
  else if (name === "value" || name === "checked" || name === "disabled" || name === "open" || name === "hidden") element[name] = value;
  else if (value === true) element.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
}

/** A sentence whose `names` stand between backticks, as children for `h`; its lines are joined. */
export function prose(text) {
  return text
    .replace(/(?<!\n)\n(?!\n)/g, " ")
    .split("`")
    .map((part, index) => (index % 2 ? h("code", {}, part) : part))
    .filter((part) => part !== "");
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
