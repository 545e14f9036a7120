"use strict";
// How numbers and states are written, and how elements are made. Text from plans, tools and documents is only ever put
// in as text: nothing here makes elements of it.

const SIGNS = {
  succeeded: "✓", failed: "✗", running: "▸", retrying: "↻", expanded: "⊞", skipped: "⊘", superseded: "–",
  unknown: "?", unapproved: "?", interrupted: "■", cancelled: "■", stopped: "■",
};

const sign = (state) => SIGNS[state] ?? "○";

// A length of time: three digits are enough to compare.
function time(micros) {
  const seconds = micros / 1e6;
  const pad = (number) => String(number).padStart(2, "0");
  if (micros < 1) return "0ms";
  if (micros < 1e3) return `${Math.round(micros)}us`;
  // Rounding must not yield `1000ms`.
  if (seconds < 0.9995) return `${(micros / 1e3).toFixed(0)}ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)}s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  if (seconds < 3599.5) return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)}h ${pad(minutes % 60)}m`;
}

// A length of time that is not known better than this.
const rough = (micros) => (micros < 9.95e6 ? `${(micros / 1e6).toFixed(1)}s` : time(Math.round(micros / 1e6) * 1e6).replace(".0s", "s"));

const money = (microUsd) => `$${(microUsd / 1e6).toFixed(3)}`;

const counted = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// The beginning of a text that has room for so many narrow characters, on one line.
function fitting(text, most) {
  let used = 0;
  let kept = "";
  for (const character of text) {
    used += character.codePointAt(0) < 128 ? 1 : 2;
    if (used > most) return [...kept].slice(0, -1).join("") + "…";
    kept += character < " " ? " " : character;
  }
  return kept;
}

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// An element; children are elements, or text that stays text.
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const find = (id) => document.getElementById(id);

// What a reader has settled for all pages. Not every browser keeps something for a file.
function kept(name) {
  try {
    return localStorage.getItem(`plandag-${name}`) ?? "";
  } catch {
    return "";
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`plandag-${name}`, value);
  } catch {
    // It holds for this page alone.
  }
}

// Changes a text only if it is another one, so that nothing is laid out for nothing.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
