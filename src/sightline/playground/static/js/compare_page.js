// The comparing page: one question to two models, their answers side by side.

import { AnswerView } from "./answer_view.js";
import { ask } from "./ask.js";
import { CompareSide } from "./compare_side.js";
import { Composer } from "./composer.js";
import { addMessage, newConversation, path, toWire } from "./conversation.js";
import { h } from "./element.js";
import { askForKey, rememberedKey } from "./key_dialog.js";
import { t, translate } from "./language.js";
import { pageControls } from "./page_controls.js";
import { questionView } from "./question_view.js";
import { showSeen } from "./seen_view.js";
import { chatBody, DEFAULTS } from "./settings.js";
import * as storage from "./storage.js";
import { Server } from "./wire.js";

const at = (id) => document.getElementById(id);

let key = rememberedKey();
const settings = { ...DEFAULTS, ...storage.remembered("settings", {}) };
const sides = ["left", "right"].map((name) => new CompareSide(name, { ownKey: () => key, onChange: () => composer?.refresh() }));
const conversations = sides.map(() => newConversation());
const rounds = []; // { question, answers: [{ message, view, side }] }
let answering = null;

const composer = new Composer({
  target: () => ({ server: sides[0].server, model: sides[0].model, window: sides[0].about?.max_model_len }),
  previous: () => toWire(path(conversations[0]), settings.system),
  onSend: compare,
  onStop: () => answering?.abort(),
});

async function compare({ text, pictures }) {
  await Promise.all(sides.map((side) => side.known));
  answering?.abort();
  const controller = new AbortController();
  answering = controller;
  composer.isAnswering = true;
  at("status").textContent = t("answering");
  const question = { role: "user", text, pictures };
  const asked = conversations.map((conversation) => addMessage(conversation, { ...question }));
  const picture = pictures.at(-1) ?? rounds.at(-1)?.picture ?? null;
  const round = { question: asked[0], picture, answers: sides.map((side, index) => answerOf(side, conversations[index], picture)) };
  rounds.push(round);
  drawRounds();
  at("scroller").scrollTop = at("scroller").scrollHeight;
  await Promise.all(round.answers.map((answer) => run(answer, controller.signal)));
  if (answering === controller) {
    answering = null;
    composer.isAnswering = false;
    at("status").textContent = t("answer_done");
  }
}

function answerOf(side, conversation, picture) {
  const { server, model } = side;
  const messages = toWire(path(conversation), settings.system);
  const message = addMessage(conversation, { role: "assistant", model, state: "waiting" });
  return { server, model, messages, message, picture, view: null };
}

function run(answer, signal) {
  const { server, model, messages, message } = answer;
  const body = chatBody({ model, messages, settings, report: server.isOurs });
  return ask(server, body, message, {
    signal,
    onChange: () => {
      const { scrollTop, scrollHeight, clientHeight } = at("scroller");
      const isAtEnd = scrollHeight - scrollTop - clientHeight < 80;
      answer.view.update();
      if (isAtEnd) at("scroller").scrollTop = at("scroller").scrollHeight;
    },
  });
}

function drawRounds() {
  if (rounds.length === 0) {
    at("rounds").replaceChildren(h("p", { class: "round-empty" }, t("compare_how")));
    return;
  }
  at("rounds").replaceChildren(
    ...rounds.map(({ question, answers }) =>
      h(
        "section",
        { class: "round" },
        questionView(question, { actions: { seen: (picture) => showSeen(new Server("/v1", key), sides[0].model, picture) } }),
        h("div", { class: "round-answers" }, answers.map((answer) => drawAnswer(answer))),
      ),
    ),
  );
}

function drawAnswer(answer) {
  const { server, model, picture, message } = answer;
  const seen = server.isOurs && picture ? () => showSeen(server, model, picture) : null;
  answer.view = new AnswerView(message, { picture, settings, actions: { seen } });
  return answer.view.element;
}

function redraw() {
  translate();
  sides.forEach((side) => side.draw());
  drawRounds();
  composer.refresh();
}

async function start() {
  at("sides").append(...sides.map((side) => side.element));
  at("composer").append(composer.element);
  at("controls").append(...pageControls(redraw));
  composer.takeDrops(at("main"));
  redraw();
  composer.focus();
  const draft = await storage.loadDraft();
  if (draft) composer.draft = draft;
  await new Server("/v1", key).models().catch(async (error) => {
    if (error.status !== 401) return;
    key = (await askForKey({ isWrong: true, current: key })) ?? key;
    await Promise.all(sides.map((side) => side.load()));
  });
}

start();
