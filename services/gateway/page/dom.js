// Elements and numbers. Text is only ever inserted as text.

const SVG = "http://www.w3.org/2000/svg";

export function find(selector, root = document) {
  return root.querySelector(selector);
}

export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function mark(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Written only where it differs, so that nothing flickers and no reader is disturbed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name) {
  if (element.getAttribute("class") !== name) element.setAttribute("class", name);
}

// An error where it happens; none takes it away.
export function showError(element, error) {
  setText(element, error ? error.message : "");
  element.hidden = !error;
}

export function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// Three digits are as many as a speed deserves.
export function speed(value) {
  return number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

export function percent(share) {
  return share === null ? "–" : `${number(share * 100)} %`;
}

export function duration(ms) {
  return ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000, 2)} s`;
}
