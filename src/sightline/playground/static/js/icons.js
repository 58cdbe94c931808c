// The icons of the page: lines on a grid of 24, in the colour of the text.

import { svg } from "./element.js";

const PATHS = {
  add: "M12 5v14M5 12h14",
  attach: "M4 16l4.5-5 4 4.5L15 13l5 5M4 5h16v14H4zM15.5 9a.5.5 0 1 0 0-1 .5.5 0 0 0 0 1",
  branch: "M7 4v16M7 15c0-5 10-3 10-10M13.5 8.5L17 5l3.5 3.5",
  camera: "M4 8h4l1.5-2h5L16 8h4v11H4zM12 16.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  code: "M8.5 7L4 12l4.5 5M15.5 7l4.5 5-4.5 5",
  compare: "M4 5h6.5v14H4zM13.5 5H20v14h-6.5z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  down: "M6 10l6 6 6-6",
  edit: "M5 19l1-4L16.5 4.5l3 3L9 18zM14 7l3 3",
  eye: "M3 12s3.5-6 9-6 9 6 9 6-3.5 6-9 6-9-6-9-6M12 14.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5",
  key: "M14 10a4 4 0 1 0-3.3 3.9L12 15v2h2v2h4v-3l-4.3-4.3",
  left: "M14 6l-6 6 6 6",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  menu: "M4 7h16M4 12h16M4 17h10",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  repeat: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  right: "M10 6l6 6-6 6",
  send: "M12 19V5M6 11l6-6 6 6",
  settings: "M4 8h9M17 8h3M4 16h3M11 16h9M15 10.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5M9 18.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5",
  stop: "M7 7h10v10H7z",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  tool: "M14.5 6.5a4 4 0 0 1 5 5L16 10l-2 2 1 3-4.5 4.5a2 2 0 0 1-3-3L12 12",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}
