// A picture from the camera: a look through it, and a button.

import { openDialog } from "./dialog.js";
import { h } from "./element.js";
import { t } from "./language.js";
import { fromFile } from "./pictures.js";

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** Resolves to a picture, or to null when none was taken. */
export async function takePicture() {
  let picture = null;
  let stream = null;
  await openDialog(t("camera"), (close) => {
    const video = h("video", { class: "camera", autoplay: true, muted: true, playsinline: true, "aria-label": t("camera") });
    const problem = h("p", { class: "problem", role: "alert", hidden: true }, t("camera_refused"));
    const take = h("button", { class: "primary", type: "button", disabled: true, onclick: onTake }, t("take_picture"));

    async function onTake() {
      picture = await fromFile(await frameOf(video));
      close();
    }
    video.addEventListener("loadeddata", () => {
      take.disabled = false;
      take.focus();
    });
    navigator.mediaDevices
      .getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } })
      .then((opened) => {
        stream = opened;
        video.srcObject = opened;
      })
      .catch(() => {
        problem.hidden = false;
        video.hidden = true;
      });
    return h("div", { class: "dialog-form" }, video, problem, h("div", { class: "dialog-actions" }, take));
  });
  stream?.getTracks().forEach((track) => track.stop());
  return picture;
}

function frameOf(video) {
  const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(new File([blob], "camera.jpg", { type: blob.type })), "image/jpeg", 0.92);
  });
}
