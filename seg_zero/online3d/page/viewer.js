// Draws the points of a scan on a canvas, with a depth buffer of its own: it needs no WebGL and no other file.
// The data stands in the page: positions (3 x uint16 within the box), colours (3 x uint8), owner (int16, -1: none).
"use strict";
(() => {
  const bytes = (id) => Uint8Array.from(atob(document.getElementById(id).textContent.trim()), (c) => c.charCodeAt(0)).buffer;
  const info = JSON.parse(document.getElementById("scan-info").textContent);
  const grid = new Uint16Array(bytes("scan-points"));
  const colours = new Uint8Array(bytes("scan-colours"));
  const owner = new Int16Array(bytes("scan-owner"));
  const count = owner.length;
  const canvas = document.getElementById("view");
  const context = canvas.getContext("2d");
  const store = "seg-zero-names:" + info.key;
  const names = JSON.parse(localStorage.getItem(store) || "{}");
  const state = { yaw: 0.7, pitch: 0.95, distance: 0.82, panX: 0, panY: 0, photo: false, chosen: -1, cut: 0, only: info.answer.length > 0 };
  const answered = new Uint8Array(info.instances.length);
  info.answer.forEach((i) => { answered[i] = 1; });

  // Positions in metres around the middle, with the room's upward direction along z.
  const points = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    const p = [0, 1, 2].map((k) => (grid[3 * i + k] / 65535) * info.extent[k] - info.extent[k] / 2);
    for (let k = 0; k < 3; k++) points[3 * i + k] = info.turn[k].reduce((sum, value, j) => sum + value * p[j], 0);
  }
  const radius = Math.max(Math.hypot(...info.extent) / 2, 0.1);

  let image, pixels, depths, picks, width = 0, height = 0, asked = false;
  const resize = () => {
    const ratio = Math.min(window.devicePixelRatio || 1, 1.5);
    width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    canvas.width = width; canvas.height = height;
    image = context.createImageData(width, height);
    pixels = new Uint32Array(image.data.buffer);
    depths = new Float32Array(width * height);
    picks = new Int32Array(width * height);
    ask();
  };

  const paint = () => {
    asked = false;
    pixels.fill(0xfffaf9f7); depths.fill(1e9); picks.fill(-1);
    const cy = Math.cos(state.yaw), sy = Math.sin(state.yaw), cp = Math.cos(state.pitch), sp = Math.sin(state.pitch);
    const far = radius * 2.6 * state.distance, focal = 1.15 * Math.min(width, height);
    const near = Math.max(0.02, far - radius + 2 * radius * state.cut);
    const base = Math.max(1, Math.round(focal * info.size / far));
    for (let i = 0; i < count; i++) {
      const x = points[3 * i], y = points[3 * i + 1], z = points[3 * i + 2];
      const a = cy * x + sy * y, b = cy * y - sy * x;      // around the upward axis
      const depth = far - (-b * cp + z * sp);              // towards the viewer
      if (depth < near && state.cut > 0 || depth < 0.02) continue;
      const u = Math.round(width / 2 + focal * (a / depth) + state.panX * focal);
      const v = Math.round(height / 2 - focal * ((b * sp + z * cp) / depth) + state.panY * focal);
      const one = owner[i], dim = state.chosen >= 0 ? one !== state.chosen : state.only && !answered[one];
      let r, g, bl;
      if (state.photo || one < 0) { r = colours[3 * i]; g = colours[3 * i + 1]; bl = colours[3 * i + 2]; }
      else { const c = info.instances[one].colour, l = 0.75 + 0.25 * (colours[3 * i] + colours[3 * i + 1] + colours[3 * i + 2]) / 765; r = c[0] * l; g = c[1] * l; bl = c[2] * l; }
      if (dim) { r = 225 + r * 0.08; g = 223 + g * 0.08; bl = 219 + bl * 0.08; }
      const value = (255 << 24 | bl << 16 | g << 8 | r) >>> 0;
      const size = Math.min(6, Math.max(base, Math.round(focal * info.size / depth))), half = size >> 1;
      for (let dy = 0; dy < size; dy++) {
        const row = v + dy - half;
        if (row < 0 || row >= height) continue;
        for (let dx = 0; dx < size; dx++) {
          const column = u + dx - half, at = row * width + column;
          if (column < 0 || column >= width || depths[at] <= depth) continue;
          depths[at] = depth; pixels[at] = value; picks[at] = one;
        }
      }
    }
    context.putImageData(image, 0, 0);
  };
  const ask = () => { if (!asked) { asked = true; requestAnimationFrame(paint); } };

  const nameOf = (i) => names[info.instances[i].number] || info.instances[i].label || "object " + (i + 1);
  // Pictures beside the points have the objects' numbers, which a name must not hide.
  const factsOf = (i) => (nameOf(i) === "object " + (i + 1) ? "" : "object " + (i + 1) + ", ") + info.instances[i].facts;
  const choose = (i, scroll) => {
    state.chosen = i === state.chosen ? -1 : i;
    items.forEach((item, j) => {
      const on = j === state.chosen;
      item.classList.toggle("chosen", on);
      item.querySelector("button").setAttribute("aria-pressed", on);
      if (on && scroll) item.scrollIntoView({ block: "nearest" });
    });
    document.getElementById("status").textContent =
      !info.instances.length ? "No object was confirmed by enough masks." :
      state.chosen < 0 ? "Click an object in the picture or in the list." : nameOf(state.chosen) + ": " + info.instances[state.chosen].facts;
    ask();
  };

  const list = document.getElementById("instances"), items = [];
  list.hidden = !info.instances.length;
  info.instances.forEach((one, i) => {
    const item = document.createElement("li"), button = document.createElement("button"), input = document.createElement("input");
    button.type = "button"; button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", "Show " + nameOf(i)); button.title = "Show only this object";
    button.style.background = `rgb(${one.colour})`;
    input.value = nameOf(i); input.setAttribute("aria-label", "Name of object " + (i + 1));
    const facts = document.createElement("span"); facts.textContent = factsOf(i);
    button.addEventListener("click", () => choose(i, false));
    input.addEventListener("change", () => {
      names[one.number] = input.value.trim();
      input.value = nameOf(i); facts.textContent = factsOf(i);
      localStorage.setItem(store, JSON.stringify(names));
      button.setAttribute("aria-label", "Show " + nameOf(i));
      if (state.chosen === i) document.getElementById("status").textContent = nameOf(i) + ": " + one.facts;
    });
    item.append(button, input, facts);
    items.push(item);
  });
  list.append(...info.order.map((i) => items[i]));  // what answers a question comes first

  // Orbit by dragging, pan with the right button or Shift, zoom with the wheel or two fingers.
  const fingers = new Map();
  let moved = 0, spread = 0;
  canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); fingers.set(e.pointerId, [e.clientX, e.clientY]); moved = 0; spread = 0; });
  canvas.addEventListener("pointermove", (e) => {
    const last = fingers.get(e.pointerId);
    if (!last) return;
    const dx = e.clientX - last[0], dy = e.clientY - last[1];
    fingers.set(e.pointerId, [e.clientX, e.clientY]);
    moved += Math.abs(dx) + Math.abs(dy);
    if (fingers.size === 2) {
      const [p, q] = [...fingers.values()], now = Math.hypot(p[0] - q[0], p[1] - q[1]);
      if (spread) state.distance = Math.min(4, Math.max(0.15, state.distance * spread / now));
      spread = now;
    } else if (e.shiftKey || e.buttons & 2) {
      const side = Math.min(canvas.clientWidth, canvas.clientHeight);
      state.panX += dx / side; state.panY += dy / side;
    } else { state.yaw += dx * 0.008; state.pitch = Math.min(1.57, Math.max(-1.57, state.pitch + dy * 0.008)); }
    ask();
  });
  const up = (e) => {
    if (fingers.delete(e.pointerId) && moved < 5 && e.type === "pointerup" && fingers.size === 0) {
      const box = canvas.getBoundingClientRect();
      const x = Math.floor((e.clientX - box.left) / box.width * width), y = Math.floor((e.clientY - box.top) / box.height * height);
      const hit = picks[y * width + x];
      if (hit >= 0) choose(hit, true); else if (state.chosen >= 0) choose(state.chosen, false);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());
  const zoom = (factor) => { state.distance = Math.min(4, Math.max(0.15, state.distance * factor)); ask(); };
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(e.deltaY * 0.001)); }, { passive: false });
  canvas.addEventListener("keydown", (e) => {
    const turn = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[e.key];
    if (turn) { state.yaw += turn[0]; state.pitch = Math.min(1.57, Math.max(-1.57, state.pitch + turn[1])); ask(); e.preventDefault(); }
    else if (e.key === "+" || e.key === "-") zoom(e.key === "+" ? 0.9 : 1.1);
  });
  document.getElementById("photo").addEventListener("change", (e) => { state.photo = e.target.checked; ask(); });
  const only = document.getElementById("only");
  if (only) only.addEventListener("change", () => { state.only = only.checked; ask(); });
  const cut = document.getElementById("cut");
  cut.addEventListener("input", () => { state.cut = cut.value / 100; ask(); });
  state.cut = cut.value / 100;
  document.getElementById("save").addEventListener("click", () => {
    const all = Object.fromEntries(info.instances.map((one, i) => [one.number, nameOf(i)]));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(all, null, 2)], { type: "application/json" }));
    link.download = "names.json"; link.click();
  });
  window.addEventListener("resize", resize);
  resize();
  choose(-1, false);
})();
