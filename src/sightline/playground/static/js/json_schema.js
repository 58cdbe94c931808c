// Whether an answer is the JSON that was asked for: the parts of JSON Schema that people write.

/** { ok: true } or { ok: false, path, reason, ...values }; `reason` is a key of the strings. */
export function judgeJson(text, schema = null) {
  let value;
  try {
    value = JSON.parse(unfenced(text));
  } catch {
    return { ok: false, path: "$", reason: "json_not_json" };
  }
  const problem = schema ? firstProblem(value, schema, "$", schema) : null;
  return problem ?? { ok: true };
}

function unfenced(text) {
  return text.trim().replace(/^```(?:json)?\s*\n([\s\S]*?)\n?```$/, "$1");
}

function firstProblem(value, schema, path, root) {
  if (schema === true || schema === undefined) return null;
  if (schema === false) return problem(path, "json_not_allowed");
  if (schema.$ref) return firstProblem(value, resolve(schema.$ref, root), path, root);
  return (
    wrongType(value, schema, path) ??
    wrongValue(value, schema, path) ??
    wrongNumber(value, schema, path) ??
    wrongText(value, schema, path) ??
    wrongArray(value, schema, path, root) ??
    wrongObject(value, schema, path, root) ??
    wrongChoice(value, schema, path, root)
  );
}

function wrongType(value, { type }, path) {
  if (type === undefined) return null;
  const types = [type].flat();
  const actual = typeOf(value);
  const fits = types.includes(actual) || (actual === "integer" && types.includes("number"));
  return fits ? null : problem(path, "json_wrong_type", { expected: types.join(" | "), actual });
}

function wrongValue(value, schema, path) {
  const same = (other) => JSON.stringify(other) === JSON.stringify(value);
  if (schema.enum && !schema.enum.some(same)) {
    return problem(path, "json_not_one_of", { expected: schema.enum.map((v) => JSON.stringify(v)).join(", ") });
  }
  if ("const" in schema && !same(schema.const)) {
    return problem(path, "json_not_one_of", { expected: JSON.stringify(schema.const) });
  }
  return null;
}

function wrongNumber(value, schema, path) {
  if (typeof value !== "number") return null;
  if (value < schema.minimum || value <= schema.exclusiveMinimum) return problem(path, "json_too_small");
  if (value > schema.maximum || value >= schema.exclusiveMaximum) return problem(path, "json_too_large");
  return null;
}

function wrongText(value, schema, path) {
  if (typeof value !== "string") return null;
  if (value.length < schema.minLength) return problem(path, "json_too_short");
  if (value.length > schema.maxLength) return problem(path, "json_too_long");
  if (schema.pattern && !new RegExp(schema.pattern, "u").test(value)) {
    return problem(path, "json_pattern", { expected: schema.pattern });
  }
  return null;
}

function wrongArray(value, schema, path, root) {
  if (!Array.isArray(value)) return null;
  if (value.length < schema.minItems) return problem(path, "json_too_short");
  if (value.length > schema.maxItems) return problem(path, "json_too_long");
  for (const [index, item] of value.entries()) {
    const rule = schema.prefixItems?.[index] ?? schema.items;
    const found = firstProblem(item, rule, `${path}[${index}]`, root);
    if (found) return found;
  }
  return null;
}

function wrongObject(value, schema, path, root) {
  if (typeOf(value) !== "object") return null;
  const missing = (schema.required ?? []).find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return problem(path, "json_missing", { name: missing });
  for (const [name, item] of Object.entries(value)) {
    const known = Object.hasOwn(schema.properties ?? {}, name);
    if (!known && schema.additionalProperties === false) {
      return problem(path, "json_extra", { name });
    }
    const rule = known ? schema.properties[name] : schema.additionalProperties;
    const found = firstProblem(item, rule, `${path}.${name}`, root);
    if (found) return found;
  }
  return null;
}

function wrongChoice(value, schema, path, root) {
  const fits = (rule) => firstProblem(value, rule, path, root) === null;
  for (const rule of schema.allOf ?? []) {
    const found = firstProblem(value, rule, path, root);
    if (found) return found;
  }
  if (schema.anyOf && !schema.anyOf.some(fits)) return problem(path, "json_no_variant");
  if (schema.oneOf && schema.oneOf.filter(fits).length !== 1) return problem(path, "json_no_variant");
  return null;
}

function resolve(reference, root) {
  const steps = reference.replace(/^#\/?/, "").split("/").filter(Boolean);
  return steps.reduce((at, step) => at?.[step.replaceAll("~1", "/").replaceAll("~0", "~")], root) ?? true;
}

function typeOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (Number.isInteger(value)) return "integer";
  return typeof value;
}

function problem(path, reason, values = {}) {
  return { ok: false, path, reason, values };
}
