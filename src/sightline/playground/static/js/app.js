// The playground: one conversation at a time with one model of the server that sent this page.

import { ask } from "./ask.js";
import { codePanel } from "./code_panel.js";
import { Composer } from "./composer.js";
import { addMessage, branch, newConversation, path, toWire } from "./conversation.js";
import { confirmLoss } from "./dialog.js";
import { h } from "./element.js";
import { askForKey, rememberedKey } from "./key_dialog.js";
import { t, translate } from "./language.js";
import { manageConversations } from "./manage_dialog.js";
import { ModelChoice } from "./model_choice.js";
import { pageControls } from "./page_controls.js";
import { Panel } from "./panel.js";
import { chatBody, countChanged, DEFAULTS } from "./settings.js";
import { settingsPanel } from "./settings_panel.js";
import { showSeen } from "./seen_view.js";
import { listenForShortcuts, showShortcuts } from "./shortcuts.js";
import { drawSidebar } from "./sidebar.js";
import * as storage from "./storage.js";
import { ThreadView } from "./thread_view.js";
import { welcome } from "./welcome.js";
import { Server } from "./wire.js";

const at = (id) => document.getElementById(id);
const DRAFT_AFTER_MS = 500;

const server = new Server("/v1", rememberedKey());
const settings = { ...DEFAULTS, ...storage.remembered("settings", {}) };
let conversations = [];
let conversation = newConversation();
let answering = null; // the AbortController of the answer that is being made
let draftTimer = 0;
let isDraftLoaded = false; // until then an empty composer says nothing about the draft

const choice = new ModelChoice(server, { select: at("model"), notice: at("notice"), onChange: onModel });
const composer = new Composer({
  target: () => ({ server, model: choice.id, window: choice.model?.max_model_len }),
  previous: () => toWire(path(conversation), settings.system),
  onSend: send,
  onStop: stop,
  onChange: keepDraft,
});
const thread = new ThreadView(at("scroller"), {
  edit: (message, text) => reply({ role: "user", text, pictures: message.pictures }, message.parent),
  regenerate: (message) => answerTo(message.parent),
  branch: (message) => open(branch(conversation, message)),
  seen: (_, picture) => showSeen(server, choice.id, picture),
  canSee: () => server.isOurs,
  result: (message, call, text) => giveResult(message, call, text),
  switched: redraw,
});
const panel = new Panel(at("panel"), {
  settings: () => settingsPanel(settings, onSettings),
  code: () => codePanel(currentRequest()),
});

function send({ text, pictures }) {
  reply({ role: "user", text, pictures }, conversation.leaf);
}

function reply(fields, parent) {
  stop();
  addMessage(conversation, fields, parent);
  return answerTo(conversation.leaf);
}

/** A result of every call of `message` is needed before the model can go on. */
function giveResult(message, call, text) {
  addMessage(conversation, { role: "tool", text, toolCallId: call.id });
  const answered = path(conversation).filter(({ role }) => role === "tool").map(({ toolCallId }) => toolCallId);
  if (message.toolCalls.every(({ id }) => answered.includes(id))) return answerTo(conversation.leaf);
  redraw();
  return storage.saveConversation(conversation);
}

async function answerTo(parent, isRetry = false) {
  stop();
  const controller = new AbortController();
  answering = controller;
  const where = conversation;
  redraw();
  await choice.known(); // a question may be quicker than the list of models
  if (controller.signal.aborted) return;
  const messages = toWire(path(where, parent), settings.system);
  const format = { kind: settings.format, schema: settings.schema };
  const message = addMessage(where, { role: "assistant", model: choice.id, format }, parent);
  // The whole answer is made of this, whatever is changed meanwhile.
  const body = chatBody({ model: choice.id, messages, settings, report: true });
  at("status").textContent = t("answering");
  composer.isAnswering = true;
  const asked = ask(server, body, message, { signal: controller.signal, onChange: () => thread.update(message) });
  remember(where);
  redraw();
  const error = await asked;
  if (answering === controller) {
    answering = null;
    composer.isAnswering = false;
    at("status").textContent = error ? t("answer_failed") : t("answer_done");
  }
  remember(where);
  if (error?.status === 401 && !isRetry && (await enterKey(true))) {
    delete where.messages[message.id];
    await answerTo(parent, true);
  }
}

function stop() {
  answering?.abort();
}

async function enterKey(isWrong) {
  at("key").hidden = false;
  const key = await askForKey({ isWrong, current: server.key });
  if (key === null) return false;
  server.key = key;
  await choice.load();
  return true;
}

function open(other) {
  stop();
  conversation = other;
  document.body.classList.remove("sidebar-open");
  redraw();
  composer.refresh();
  composer.focus();
}

async function removeConversation(gone) {
  if (!(await confirmLoss(t("delete_question", { title: gone.title || t("untitled") }), t("delete")))) return;
  await storage.deleteConversation(gone.id);
  conversations = conversations.filter(({ id }) => id !== gone.id);
  if (gone.id === conversation.id) open(newConversation());
  else redrawSidebar();
}

function manage() {
  return manageConversations({
    conversations,
    current: conversation,
    onImport: async (found) => {
      for (const one of found) await storage.saveConversation(one);
      conversations = await storage.allConversations();
      open(conversations.find(({ id }) => id === found[0].id));
    },
    onDeleteAll: async () => {
      await storage.deleteEverything();
      conversations = [];
      open(newConversation());
    },
  });
}

async function remember(changed) {
  conversations = [changed, ...conversations.filter(({ id }) => id !== changed.id)];
  redrawSidebar();
  await storage.saveConversation(changed);
}

function keepDraft() {
  clearTimeout(draftTimer);
  if (!isDraftLoaded) return;
  draftTimer = setTimeout(() => storage.saveDraft(composer.draft), DRAFT_AFTER_MS);
}

/** A page that closes has no time for IndexedDB: the words of the last half second go another way. */
function onLeaving() {
  if (isDraftLoaded) storage.remember("leaving", composer.draft.text);
}

async function restoreDraft() {
  const draft = await storage.loadDraft();
  isDraftLoaded = true;
  if (composer.draft.text || composer.draft.pictures.length > 0) return;
  const text = storage.remembered("leaving", draft?.text ?? "");
  storage.remember("leaving", null); // after a crash the older words must not win
  composer.draft = { text, pictures: draft?.pictures ?? [] };
}

function onModel() {
  composer.refresh();
  panel.redraw("code");
}

function onSettings() {
  storage.remember("settings", settings);
  const changed = countChanged(settings);
  at("settings-count").textContent = changed || "";
}

/** What is in the composer, or what was asked last. */
function currentRequest() {
  const { text, pictures } = composer.draft;
  const shown = path(conversation);
  const asked = shown.slice(0, shown.findLastIndex(({ role }) => role !== "assistant") + 1);
  const isWriting = text.trim() !== "" || pictures.length > 0;
  const messages = isWriting ? [...shown, { role: "user", text, pictures }] : asked;
  const files = new Map();
  for (const picture of messages.flatMap((message) => message.pictures ?? [])) {
    if (picture.source.startsWith("data:")) files.set(picture.source, { ...picture, key: files.size });
  }
  const wire = toWire(messages.length ? messages : [{ role: "user", text: t("example_shapes"), pictures: [] }], settings.system);
  return {
    base: `${location.origin}/v1`,
    hasKey: server.key !== "",
    body: chatBody({ model: choice.id, messages: wire, settings }),
    pictures: files,
    model: choice.model,
  };
}

function redraw() {
  const isEmpty = conversation.leaf === null;
  at("scroller").classList.toggle("empty", isEmpty);
  at("scroller").replaceChildren(isEmpty ? welcome(onExample) : thread.element);
  if (!isEmpty) thread.draw(conversation, settings);
  redrawSidebar();
  panel.redraw("code");
}

async function onExample(file, question) {
  composer.draft = { text: question, pictures: [] };
  await composer.addFile(file);
  composer.focus();
}

function redrawSidebar() {
  drawSidebar(at("conversations"), {
    conversations,
    current: conversation,
    actions: { open, remove: removeConversation, create: () => open(newConversation()), manage },
  });
}

function redrawTexts() {
  translate();
  redraw();
  panel.redraw();
  composer.refresh();
  choice.redraw();
}

function editLast() {
  [...thread.element.querySelectorAll(".question .edit")].at(-1)?.click();
}

async function start() {
  at("composer").append(composer.element);
  at("controls").append(...pageControls(redrawTexts));
  at("key").addEventListener("click", () => enterKey(false));
  at("show-settings").addEventListener("click", () => panel.toggle("settings"));
  at("show-code").addEventListener("click", () => panel.toggle("code"));
  at("show-shortcuts").addEventListener("click", showShortcuts);
  at("show-sidebar").addEventListener("click", () => document.body.classList.toggle("sidebar-open"));
  at("shade").addEventListener("click", () => document.body.classList.remove("sidebar-open"));
  composer.takeDrops(at("main"));
  listenForShortcuts({
    stop,
    focus: () => composer.focus(),
    editLast,
    create: () => open(newConversation()),
    code: () => panel.toggle("code"),
    settings: () => panel.toggle("settings"),
  });
  addEventListener("pagehide", onLeaving);
  at("key").hidden = server.key === "";
  onSettings();
  translate();
  redraw();
  composer.focus();
  conversations = await storage.allConversations();
  redrawSidebar();
  await restoreDraft();
  if ((await choice.load()) === "key wanted") await enterKey(true);
}

start();
