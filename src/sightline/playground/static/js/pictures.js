// Pictures as they come in: files, the clipboard, addresses, the camera.
//
// picture: { source, name, type, bytes, width, height, shown }
// `source` is what the server is sent: a data URL, or an address that the server fetches. This page
// itself never asks another host for anything, so of such a picture it shows what the server saw:
// `shown`.

let numPasted = 0;

/** The pictures among dropped or pasted things. */
export function filesIn(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/") || /\.(heic|avif|bmp)$/i.test(file.name));
}

/** A picture address among dropped or pasted things, or null. */
export function addressIn(transfer) {
  const text = (transfer?.getData("text/uri-list") || transfer?.getData("text/plain") || "").trim();
  return /^(https?:\/\/|data:image\/)\S+$/i.test(text) ? text : null;
}

export async function fromFile(file) {
  const source = await dataUrl(file);
  const size = await sizeOf(file);
  numPasted += 1;
  const suffix = file.type.split("/")[1] ?? "png";
  return {
    source,
    name: file.name || `picture-${numPasted}.${suffix}`,
    type: file.type,
    bytes: file.size,
    shown: source,
    ...size,
  };
}

export async function fromAddress(address) {
  if (address.startsWith("data:")) return fromFile(await (await fetch(address)).blob());
  const name = decodeURIComponent(new URL(address).pathname.split("/").pop() || new URL(address).hostname);
  return { source: address, name, type: "", bytes: null, width: null, height: null, shown: null };
}

/** "PNG" for image/png. */
export function formatName(type) {
  return type.replace(/^image\//, "").replace(/^x-|\+xml$/g, "").toUpperCase();
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** What cannot be read here is left for the server to judge. */
async function sizeOf(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const { width, height } = bitmap;
    bitmap.close();
    return { width, height };
  } catch {
    return { width: null, height: null };
  }
}
