// Conversations in this browser's IndexedDB, small choices in its localStorage. Nothing leaves it.

const DATABASE = "sightline";
const VERSION = 1;

let opening;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      request.result.createObjectStore("drafts");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

async function run(store, mode, action) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(store, mode);
    const request = action(transaction.objectStore(store));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = () => reject(transaction.error);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** All conversations, the latest first. */
export async function allConversations() {
  const found = await run("conversations", "readonly", (store) => store.getAll());
  return found.sort((one, other) => other.updated - one.updated);
}

export function saveConversation(conversation) {
  return run("conversations", "readwrite", (store) => store.put(conversation));
}

export function deleteConversation(id) {
  return run("conversations", "readwrite", (store) => store.delete(id));
}

export async function deleteEverything() {
  await run("conversations", "readwrite", (store) => store.clear());
  await run("drafts", "readwrite", (store) => store.clear());
}

/** What stood in the composer: { text, pictures }. */
export function loadDraft() {
  return run("drafts", "readonly", (store) => store.get("draft"));
}

export function saveDraft(draft) {
  return run("drafts", "readwrite", (store) => store.put(draft, "draft"));
}

/** A small choice that was made before, or `fallback`. */
export function remembered(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`sightline.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(name, value) {
  if (value === null) localStorage.removeItem(`sightline.${name}`);
  else localStorage.setItem(`sightline.${name}`, JSON.stringify(value));
}
