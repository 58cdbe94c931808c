// A JSON schema of the OpenAPI document as a list that opens where one wants to look deeper.

import { inWords } from "./api_words.js";
import { h, prose } from "./element.js";
import { t } from "./language.js";

/** Follow `$ref`; any other schema is itself. */
export function resolve(schema, document) {
  const name = schema?.$ref?.split("/").pop();
  return name ? document.components.schemas[name] : (schema ?? {});
}

/** What a schema takes, in a few words: `string`, `number 0 to 2`, `"stop" | "length"`, `Message[]`. */
export function kindOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kindOf).join(" | ");
  if (schema.allOf) return schema.allOf.map(kindOf).join(" & ");
  if (schema.type === "array") {
    const items = kindOf(schema.items ?? {});
    return items.includes(" ") ? `(${items})[]` : `${items}[]`;
  }
  return [schema.type ?? "any", bounds(schema)].filter(Boolean).join(" ");
}

function bounds(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum ?? schema.minLength;
  const high = schema.maximum ?? schema.maxLength;
  const above = "exclusiveMinimum" in schema ? ">" : "";
  if (Number.isSafeInteger(high) || (high !== undefined && !Number.isInteger(high))) return `${above}${low ?? ""}…${high}`;
  return low !== undefined && Number.isSafeInteger(low) ? `≥ ${low}` : "";
}

/** The objects that a value of `schema` can be or hold, each to be shown by its fields. */
export function objectsIn(schema, document) {
  const whole = resolve(schema, document);
  if (whole.properties) return [whole];
  const inner = whole.anyOf ?? whole.allOf ?? (whole.items ? [whole.items] : []);
  return inner.flatMap((one) => objectsIn(one, document));
}

export function schemaView(schema, document) {
  const objects = objectsIn(schema, document);
  if (!objects.length) return h("p", { class: "field-kind" }, kindOf(schema));
  return h("div", {}, objects.map((object) => fieldList(object, document)));
}

function fieldList(object, document) {
  const required = new Set(object.required ?? []);
  return h("ul", { class: "fields" }, Object.entries(object.properties).map(([name, schema]) => field(name, schema, required.has(name), document)));
}

function field(name, schema, isRequired, document) {
  const line = [
    h("span", { class: "field-name" }, name), " ",
    h("span", { class: "field-kind" }, kindOf(schema)), " ",
    isRequired && h("span", { class: "field-must" }, t("required")),
    about(schema) && h("span", { class: "muted" }, " ", prose(inWords(about(schema)))),
  ];
  if (!objectsIn(schema, document).length) return h("li", {}, line);
  const more = h("details", {}, h("summary", {}, line));
  more.addEventListener("toggle", () => more.open && more.children.length === 1 && more.append(schemaView(schema, document)));
  return h("li", {}, more);
}

function about(schema) {
  return schema.description ?? schema.anyOf?.map(about).find(Boolean) ?? "";
}
