// Script of the pages of a review (nbs/reviewing/04_page.ipynb). Text that comes from files reaches the page as text only (textContent), never as HTML.
'use strict';
(() => {
const find = id => document.getElementById(id);
const data = JSON.parse(find('data').textContent);
const items = data.items;
const FORMAT = 'rts_nb verdicts 1';
const WORDS = ['rts', 'not', 'unsure'];
const KEY = `rts_nb verdicts ${data.map} ${data.sample} ${data.batch}`;
const NAME_KEY = 'rts_nb reviewer';
const NEAR = 14;  // pixels: a click so near to a mark takes it away

// ---------------------------------------------------------------- what is kept
// {reviewer, at: id of the item shown, kept: {id: {verdict, time, points, outline, corners, note}}}
let state = {reviewer: '', at: '', kept: {}};
let stores = true;  // whether this browser keeps anything

const isPoint = p => Array.isArray(p) && p.length === 2 && p.every(Number.isFinite);
const isRing = ring => Array.isArray(ring) && ring.every(isPoint);

// What an item has, cleaned: an entry that is damaged counts as none.
function cleaned(entry) {
  const {verdict = null, time = '', points = [], outline = null, corners = [], note = ''} = entry || {};
  const isWhole = (verdict === null || WORDS.includes(verdict)) && isRing(points) && isRing(corners)
    && (outline === null || isRing(outline)) && typeof note === 'string' && typeof time === 'string';
  return isWhole ? {verdict, time, points, outline, corners, note} : {verdict: null, time: '', points: [], outline: null, corners: [], note: ''};
}

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) || '{}');
    const kept = {};
    for (const {id} of items) if (found.kept && found.kept[id]) kept[id] = cleaned(found.kept[id]);
    state = {reviewer: String(found.reviewer || localStorage.getItem(NAME_KEY) || ''), at: String(found.at || ''), kept};
  } catch (error) {
    stores = !(error instanceof DOMException);
    say(stores ? 'What this browser kept of the batch is damaged; open your last verdict file.' : '', 'wrong');
  }
}

function store() {
  try {
    localStorage.setItem(KEY, JSON.stringify(state));
    if (state.reviewer) localStorage.setItem(NAME_KEY, state.reviewer);
  } catch {
    stores = false;
    say('This browser keeps nothing: save the verdict file often.', 'wrong');
  }
}

const entry = id => state.kept[id] || cleaned();

function change(id, changes) {
  state.kept[id] = {...entry(id), ...changes, time: new Date().toISOString()};
  store();
}

// ---------------------------------------------------------------- what is shown
let at = 0;
let isWide = false;
let hasOutline = true;
let isBright = true;
let isFalse = false;
let isDrawing = false;
let cross = null;  // [x, y] of the crosshair (m), or null

const item = () => items[at];
const view = () => item().views[isWide ? 'wide' : 'tight'];
const isJudged = ({id}) => entry(id).verdict !== null;
const lacksOutline = ({id, ask}) => ask && entry(id).verdict === 'rts' && !entry(id).outline;
const count = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`;

function say(text, kind = '') {
  find('message').textContent = text;
  find('message').className = kind;
}

function shape(tag, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const toDrawing = ([x, y]) => [x - view().box[0], view().box[3] - y].map(value => value.toFixed(2));
const pathOf = (ring, end) => ring.length ? `M${ring.map(point => toDrawing(point).join(' ')).join('L')}${end}` : '';
const metresPerPixel = () => (view().box[2] - view().box[0]) / (find('view').clientWidth || 1);

// Longitude and latitude of a point, between those of the corners of the wide view: exact to a metre or two.
function degrees([x, y]) {
  const [left, bottom, right, top] = item().views.wide.box;
  const u = (x - left) / (right - left);
  const v = (y - bottom) / (top - bottom);
  const [a, b, c, d] = item().corners;  // lower left, lower right, upper left, upper right
  const [longitude, latitude] = [0, 1].map(k => (a[k] * (1 - u) + b[k] * u) * (1 - v) + (c[k] * (1 - u) + d[k] * u) * v);
  const east = (longitude + 540) % 360 - 180;
  return `${Math.abs(latitude).toFixed(5)}° ${latitude < 0 ? 'S' : 'N'}, ${Math.abs(east).toFixed(5)}° ${east < 0 ? 'W' : 'E'}`;
}

function drawScale() {
  const ground = (view().box[2] - view().box[0]) * item().ground;
  const power = 10 ** Math.floor(Math.log10(ground / 4));
  const length = power * [5, 2, 1].find(factor => factor * power <= ground / 4);
  const width = find('view').clientWidth * length / ground;
  find('scale').querySelector('span').textContent = length < 1000 ? `${length} m` : `${length / 1000} km`;
  find('scale').querySelector('i').style.width = `${width}px`;
}

function drawShapes() {
  const {points, outline, corners} = entry(item().id);
  const unit = metresPerPixel();
  find('stripes').setAttribute('patternTransform', `rotate(45) scale(${unit})`);
  const showsOutline = hasOutline && !(isDrawing && !item().square);  // a reviewer draws what they see, not what the model drew
  const rings = item().square ? [item().square] : item().rings;
  const line = showsOutline ? rings.map(ring => pathOf(ring, 'Z')).join('') : '';
  find('halo').setAttribute('d', line);
  find('line').setAttribute('d', line);
  find('line').setAttribute('class', item().square ? 'square' : '');
  const drawn = isDrawing ? pathOf(corners, '') : outline ? pathOf(outline, 'Z') : '';
  find('drawnhalo').setAttribute('d', drawn);
  find('drawn').setAttribute('d', drawn);
  find('drawn').setAttribute('class', isDrawing ? 'open' : '');
  find('marks').replaceChildren(...[...points.map(p => [p, 10]), ...(isDrawing ? corners.map(p => [p, 3]) : [])].flatMap(([point, radius]) => {
    const [cx, cy] = toDrawing(point);
    const r = radius * unit;
    return radius < 5 ? [shape('circle', {cx, cy, r, class: 'dot'})]
      : [shape('circle', {cx, cy, r, class: 'rim'}), shape('circle', {cx, cy, r}), shape('circle', {cx, cy, r: 2 * unit, class: 'dot'})];
  }));
  let lines = '';
  if (cross) {
    const [x, y] = toDrawing(cross).map(Number);
    const [near, far] = [4 * unit, 18 * unit];
    lines = [[1, 0], [-1, 0], [0, 1], [0, -1]].map(([u, v]) => `M${x + u * near} ${y + v * near}L${x + u * far} ${y + v * far}`).join('');
    find('where').textContent = degrees(cross);
  }
  find('crosshalo').setAttribute('d', lines);
  find('crossline').setAttribute('d', lines);
  find('view').classList.toggle('marks', Boolean(item().square || item().ask));
}

function drawView() {
  const {box, image, natural, stretched, false: infrared, empty, missing} = view();
  const [width, height] = [box[2] - box[0], box[3] - box[1]];
  const showsFalse = isFalse && Boolean(infrared);
  find('drawing').setAttribute('viewBox', `0 0 ${width} ${height}`);
  for (const [id, url] of [['picture', showsFalse ? infrared : image], ['empty', empty]]) {
    const picture = find(id);
    picture.toggleAttribute('hidden', !url);
    if (url) for (const [name, value] of Object.entries({href: url, width, height})) picture.setAttribute(name, value);
    else picture.removeAttribute('href');
  }
  for (const id of ['where-empty', 'cover']) {
    find(id).setAttribute('width', width);
    find(id).setAttribute('height', height);
  }
  find('cover').toggleAttribute('hidden', !empty);
  const [slope, intercept] = (isBright ? stretched : natural) || [1, 0];
  for (const part of find('brightness').querySelectorAll('feFuncR, feFuncG, feFuncB')) {
    part.setAttribute('slope', slope);
    part.setAttribute('intercept', intercept);
  }
  if (image && !showsFalse) find('picture').setAttribute('filter', 'url(#brightness)');
  else find('picture').removeAttribute('filter');
  find('view').classList.toggle('blank', !image);
  find('blank').hidden = Boolean(image);
  find('blank').textContent = image ? '' : `${data.pixels ? 'The imagery of this place could not be read.' : 'This page was made without imagery.'} Look the place up elsewhere: ${item().place}`;
  find('legend').hidden = !empty;
  find('legend').textContent = `hatched: no imagery (${Math.round(100 * (missing || 0))} %)`;
  const side = width * item().ground;
  find('extent').textContent = `${side < 1000 ? `${Math.round(side)} m` : `${(side / 1000).toFixed(1)} km`} wide`;
  for (const [id, isOn] of [['tight', !isWide], ['wide', isWide], ['outline', hasOutline], ['bright', isBright && !showsFalse], ['false', showsFalse], ['cross', Boolean(cross)]]) {
    find(id).setAttribute('aria-pressed', isOn);
  }
  find('false').disabled = !infrared;
  find('bright').disabled = !image || showsFalse;
  find('outline').firstChild.textContent = item().square ? 'Square ' : 'Outline ';
  drawScale();
  drawShapes();
}

// ---------------------------------------------------------------- the panel beside it
function questionOf({square, ask}) {
  if (square) return 'Is there a slump in this square? Mark each one whose centre lies inside.';
  return `Is the outlined feature a retrogressive thaw slump?${ask ? ' If it is, its outline is asked for too.' : ''}`;
}

function drawPanel() {
  const {id, square, ask} = item();
  const {verdict, points, outline, corners} = entry(id);
  for (const word of WORDS) find(word).setAttribute('aria-pressed', verdict === word);
  find('marking').hidden = !square;
  find('marked').textContent = points.length ? `${count(points.length, 'slump')} marked. A click on a mark takes it away.` : 'No slump marked. Click each one, or use the crosshair.';
  find('unmark').disabled = !points.length;
  find('outlining').hidden = !ask;
  const open = corners.length ? `${count(corners.length, 'corner')}; ` : '';
  find('outlined').textContent = isDrawing ? `${open}click along the edge of the slump, then close the outline.`
    : outline ? 'Your outline is kept.' : 'An outline is asked for here: draw the edge as you see it.';
  find('draw').hidden = isDrawing;
  find('draw').firstChild.textContent = outline ? 'Draw anew ' : 'Draw ';
  find('close').hidden = !isDrawing;
  find('close').disabled = corners.length < 3;
  find('undo').hidden = !isDrawing;
  find('undo').disabled = !corners.length;
  find('discard').hidden = !isDrawing && !outline;
}

function drawProgress() {
  const judged = items.filter(isJudged).length;
  const lacking = items.filter(lacksOutline).length;
  find('progress').textContent = `${judged} of ${items.length} judged${lacking ? `, ${count(lacking, 'outline')} missing` : ''}`;
  items.forEach(({id}, k) => { find('strip').children[k].className = `${entry(id).verdict || ''}${k === at ? ' here' : ''}`; });
  find('unjudged').disabled = judged === items.length && !lacking;
  find('who').textContent = state.reviewer || 'no name yet';
  find('kept').textContent = stores ? `${count(judged, 'verdict')} of ${state.reviewer || 'nobody yet'} kept under this page's map, sample and batch.`
    : 'This browser keeps nothing: save the verdict file often.';
}

function drawItem() {
  find('item').textContent = `Item ${at + 1} of ${items.length}`;
  find('question').textContent = questionOf(item());
  find('rtsname').textContent = item().square ? 'Slump here' : 'Slump';
  find('notname').textContent = item().square ? 'No slump' : 'Not a slump';
  find('view').setAttribute('aria-label', `${item().square ? 'Square' : 'Outline'} of item ${at + 1} at ${item().place}; c is a crosshair that arrow keys move`);
  find('place').textContent = item().place;
  find('scene').textContent = [item().scene, item().date].filter(Boolean).join(', ');
  find('note').value = entry(item().id).note;
  find('where').textContent = '';
  const [left, bottom, right, top] = item().views.tight.box;  // the pole is at (0, 0)
  find('north').firstChild.setAttribute('transform', `rotate(${Math.atan2(-left - right, -bottom - top) * 180 / Math.PI})`);
  find('back').disabled = at === 0;
  find('forward').disabled = at === items.length - 1;
  drawView();
  drawPanel();
  drawProgress();
}

function refresh() {
  drawView();
  drawPanel();
  drawProgress();
}

function go(number, text = '') {
  if (number < 0 || number >= items.length) return;
  at = number;
  isWide = false;
  isDrawing = entry(item().id).corners.length > 0;  // an outline that a reload cut off goes on
  cross = cross && [0, 1].map(k => (view().box[k] + view().box[k + 2]) / 2);
  state.at = item().id;
  store();
  say(text);
  drawItem();
}

// ---------------------------------------------------------------- verdicts
function nextOpen() {
  const order = items.map((_, k) => (at + 1 + k) % items.length);
  const next = order.find(k => !isJudged(items[k])) ?? order.find(k => lacksOutline(items[k]));
  if (next !== undefined) go(next);
}

function judge(word) {
  const {id, square, ask} = item();
  const {points, outline, verdict} = entry(id);
  if (square && word === 'rts' && !points.length) {
    say('Mark each slump in the square first: click it, or use the crosshair (c, arrows, Space).', 'wrong');
    return;
  }
  if (square && word === 'not' && points.length) {
    say(`${count(points.length, 'slump')} marked in this square: take the marks away, or judge that there is a slump.`, 'wrong');
    return;
  }
  const wasOpen = verdict === null;
  isDrawing = false;
  change(id, {verdict: word, corners: []});
  if (word === 'rts' && ask && !outline) {
    startDrawing('Kept. Now draw its outline: click corners, Enter closes it, Escape leaves it for later.');
    return;
  }
  if (wasOpen && items.every(isJudged)) finish();
  else if (at < items.length - 1) go(at + 1, `Item ${at + 1}: ${find(word).firstElementChild.textContent.toLowerCase()}.`);
  else go(at, 'This was the last item. Press j for those that are open.');
}

function finish() {
  const lacking = items.filter(lacksOutline).length;
  go(at);
  find('donetext').textContent = `You judged ${items.length === 1 ? 'the one item' : `all ${items.length} items`} of this batch.`
    + (lacking ? ` ${count(lacking, 'outline')} that ${lacking === 1 ? 'is' : 'are'} asked for ${lacking === 1 ? 'is' : 'are'} missing; j leads there.` : '')
    + ' Save the verdict file and send it to whoever runs the review.';
  find('done').showModal();
}

function mark(point) {
  const {id, square} = item();
  const {points, verdict} = entry(id);
  const near = NEAR * metresPerPixel();
  const rest = points.filter(([x, y]) => Math.hypot(x - point[0], y - point[1]) > near);
  const [[left, bottom], , [right, top]] = square;
  if (rest.length === points.length) {
    if (point[0] < left || point[0] > right || point[1] < bottom || point[1] > top) {
      say('That lies outside the square: mark only slumps whose centre lies inside.', 'wrong');
      return;
    }
    rest.push(point);
  }
  const contradicts = (verdict === 'not' && rest.length) || (verdict === 'rts' && !rest.length);
  change(id, {points: rest, ...(contradicts ? {verdict: null} : {})});
  say(contradicts ? 'The marks no longer fit the verdict: judge this square again.' : `${count(rest.length, 'slump')} marked.`);
  refresh();
}

// ---------------------------------------------------------------- outlines
function startDrawing(text = 'Click corners along the edge of the slump; Enter closes the outline.') {
  if (!item().ask) {
    say('No outline is asked for here.', 'wrong');
    return;
  }
  isDrawing = true;
  say(text);
  refresh();
}

function stopDrawing(text) {
  isDrawing = false;
  change(item().id, {corners: []});
  say(text);
  refresh();
}

function turn([ax, ay], [bx, by], [cx, cy]) {
  return Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax));
}

function crosses(ring) {
  const sides = ring.map((point, k) => [point, ring[(k + 1) % ring.length]]);
  return sides.some(([a, b], k) => sides.some(([c, d], m) => {
    const isApart = m > k + 1 && !(k === 0 && m === sides.length - 1);
    return isApart && turn(a, b, c) !== turn(a, b, d) && turn(c, d, a) !== turn(c, d, b);
  }));
}

function areaOf(ring) {
  const [x0, y0] = ring[0];
  return Math.abs(ring.reduce((sum, [x, y], k) => {
    const [u, v] = ring[(k + 1) % ring.length];
    return sum + (x - x0) * (v - y0) - (u - x0) * (y - y0);
  }, 0)) / 2;
}

function addCorner(point) {
  const {id} = item();
  const {corners} = entry(id);
  const [x, y] = corners[corners.length - 1] || [Infinity, Infinity];
  if (Math.hypot(point[0] - x, point[1] - y) < metresPerPixel()) return;
  isDrawing = true;
  change(id, {corners: [...corners, point]});
  refresh();
}

function undoCorner() {
  change(item().id, {corners: entry(item().id).corners.slice(0, -1)});
  refresh();
}

function closeOutline() {
  const {id} = item();
  const {corners, verdict} = entry(id);
  const isThin = corners.length < 3 || (!crosses(corners) && areaOf(corners) < 1);
  if (isThin || crosses(corners)) {
    say(isThin ? 'An outline has at least three corners around some ground: click more of them, or press Escape.'
      : 'The outline crosses itself: take corners back with Backspace, or discard it with Escape.', 'wrong');
    return;
  }
  isDrawing = false;
  const isSlump = verdict === 'rts' || (!item().square && verdict === null);
  change(id, {outline: corners, corners: [], ...(isSlump ? {verdict: 'rts'} : {})});
  const opens = items.filter(other => !isJudged(other)).length;
  say(`Outline kept${entry(id).verdict === 'rts' ? ', and judged a slump' : '; it goes into the file with the verdict r'}. ${opens ? 'Arrow right is the next item.' : ''}`);
  refresh();
}

// ---------------------------------------------------------------- pointer and crosshair
function pointOf(event) {
  const frame = find('view').getBoundingClientRect();
  const [left, bottom, right, top] = view().box;
  const x = left + (event.clientX - frame.left) / frame.width * (right - left);
  const y = top - (event.clientY - frame.top) / frame.height * (top - bottom);
  return [x, y].map(value => Math.round(100 * value) / 100);
}

function clickAt(point) {
  if (isDrawing || (item().ask && !item().square)) addCorner(point);
  else if (item().square) mark(point);
}

find('view').addEventListener('click', event => {
  if (event.target.closest('#blank')) return;
  if (event.detail > 1) {  // the first click of two has done its part
    if (isDrawing) closeOutline();
    return;
  }
  if (cross) cross = pointOf(event);
  clickAt(pointOf(event));
});
find('view').addEventListener('pointermove', event => { if (!cross) find('where').textContent = degrees(pointOf(event)); });
find('view').addEventListener('pointerleave', () => { if (!cross) find('where').textContent = ''; });
new ResizeObserver(() => { drawScale(); drawShapes(); }).observe(find('view'));

function toggleCross() {
  const {box} = view();
  cross = cross ? null : [0, 1].map(k => Math.round(50 * (box[k] + box[k + 2])) / 100);
  find('where').textContent = '';
  say(cross ? 'Crosshair: arrows move it, with Shift in large steps; Space is a click; Escape leaves it.' : '');
  if (cross) find('view').focus();
  drawView();
}

const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]};

function moveCross(key, isLarge) {
  const {box} = view();
  const step = (box[2] - box[0]) * (isLarge ? 0.05 : 0.005);
  cross = cross.map((value, k) => Math.round(100 * Math.min(box[k + 2], Math.max(box[k], value + step * STEPS[key][k]))) / 100);
  drawShapes();
}

function setView(wide) {
  isWide = wide;
  if (cross) cross = cross.map((value, k) => Math.min(view().box[k + 2], Math.max(view().box[k], value)));
  drawView();
}

// ---------------------------------------------------------------- the verdict file
function verdictFile() {
  const judged = items.filter(isJudged);
  const verdicts = judged.map(({id, square}) => {
    const {verdict, time, points, outline, note} = entry(id);
    return {item: id, verdict, time, points: square ? points : [], outline: verdict === 'rts' ? outline : null, note};
  });
  const {map, sample, batch} = data;
  return {format: FORMAT, map, sample, batch, reviewer: state.reviewer, saved: new Date().toISOString(), finished: judged.length === items.length, verdicts};
}

function fileName({batch, reviewer, finished}) {
  const slug = reviewer.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '') || 'reviewer';
  return `verdicts-${String(batch).padStart(2, '0')}-${slug}${finished ? '' : '-unfinished'}.json`;
}

let savesNext = false;

function save() {
  if (!state.reviewer) {
    savesNext = true;
    askName('Enter your name first: the verdict file is saved under it.');
    return;
  }
  const file = verdictFile();
  const url = URL.createObjectURL(new Blob([`${JSON.stringify(file, null, 1)}\n`], {type: 'application/json'}));
  const link = document.createElement('a');
  link.href = url;
  link.download = fileName(file);
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  const open = items.length - file.verdicts.length;
  say(open ? `Saved ${link.download}: unfinished, ${open} of ${items.length} items are not judged yet.` : `Saved ${link.download} with all ${items.length} items.`);
}

// The content of a verdict file of this batch; an error with a sentence for the reviewer else.
function parseFile(text, name) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error(`${name} is not a whole verdict file (was it cut off?); nothing was changed.`);
  }
  if (!file || file.format !== FORMAT || !Array.isArray(file.verdicts)) throw new Error(`${name} is no verdict file of this kind (${FORMAT}); nothing was changed.`);
  for (const [key, what] of [['map', 'another map'], ['sample', 'another sample'], ['batch', `batch ${file.batch}`]]) {
    if (file[key] !== data[key]) throw new Error(`${name} is of ${what}, this page is batch ${data.batch} of sample ${data.sample}; open it there. Nothing was changed.`);
  }
  if (typeof file.reviewer !== 'string') throw new Error(`${name} names no reviewer; nothing was changed.`);
  if (file.reviewer !== state.reviewer && items.some(isJudged)) {
    throw new Error(`${name} is by ${file.reviewer}, this page holds verdicts of ${state.reviewer || 'somebody without a name'}: save those and start over first (under ?). Nothing was changed.`);
  }
  const ids = new Set(items.map(({id}) => id));
  const seen = new Set();
  for (const verdict of file.verdicts) {
    const id = verdict && verdict.item;
    if (!ids.has(id) || seen.has(id)) throw new Error(`${name} has ${seen.has(id) ? 'twice' : ''} the item ${id}${ids.has(id) ? '' : ', which is not in this batch'}; nothing was changed.`);
    const {verdict: word} = cleaned(verdict);
    if (word === null) throw new Error(`${name} has a faulty verdict of item ${id}; nothing was changed.`);
    seen.add(id);
  }
  return file;
}

async function openFile(chosen) {
  try {
    const file = parseFile(await chosen.text(), chosen.name);
    const newer = file.verdicts.filter(({item: id, time}) => !entry(id).verdict || String(time) > entry(id).time);
    for (const verdict of newer) state.kept[verdict.item] = {...cleaned(verdict), corners: []};
    state.reviewer = file.reviewer;
    store();
    const older = file.verdicts.length - newer.length;
    go(at, `${count(newer.length, 'verdict')} taken from ${chosen.name}${older ? `; ${older} of this page are as new and stay` : ''}.`);
  } catch (error) {
    say(error.message, 'wrong');
  }
}

// ---------------------------------------------------------------- dialogs
// Closes a dialog; the keys go to the page at once, and not to a field that is no longer seen.
function closeDialog(id) {
  find(id).close();
  find('view').focus();
}

function askName(why = '') {
  find('welcomewhy').textContent = why;
  find('reviewer').value = state.reviewer;
  find('start').textContent = state.reviewer ? 'Keep' : 'Start';
  find('welcome').showModal();
  find('reviewer').focus();
}

function takeName() {
  const name = find('reviewer').value.trim();
  if (!name && savesNext) {
    find('welcomewhy').textContent = 'A name is needed to save the verdict file.';
    return;
  }
  if (name) state.reviewer = name;
  store();
  drawProgress();
  const saves = savesNext;
  closeDialog('welcome');
  if (saves) save();
}

let isSure = false;

function forget() {
  if (!isSure) {
    isSure = true;
    find('forget').textContent = `Delete ${count(items.filter(isJudged).length, 'verdict')} from this browser?`;
    return;
  }
  state = {reviewer: '', at: '', kept: {}};
  store();
  closeDialog('help');
  go(0);
  askName();
}

find('welcome').addEventListener('close', () => { savesNext = false; });
find('help').addEventListener('close', () => {
  isSure = false;
  find('forget').textContent = 'Start over as another reviewer';
});
find('reviewer').addEventListener('keydown', event => { if (event.key === 'Enter') takeName(); });

// ---------------------------------------------------------------- buttons and keys
const toggles = {
  w: () => setView(!isWide),
  o: () => { hasOutline = !hasOutline; drawView(); },
  b: () => { if (!find('bright').disabled) { isBright = !isBright; drawView(); } },
  f: () => {
    if (find('false').disabled) say('This scene has no near infrared.', 'wrong');
    else { isFalse = !isFalse; drawView(); }
  },
  c: toggleCross,
  d: () => startDrawing(),
  j: nextOpen,
  s: save,
  r: () => judge('rts'),
  n: () => judge('not'),
  u: () => judge('unsure'),
  '?': () => find('help').showModal(),
};
const clicks = {
  tight: () => setView(false), wide: () => setView(true), outline: toggles.o, bright: toggles.b, false: toggles.f, cross: toggles.c,
  draw: toggles.d, close: closeOutline, undo: undoCorner, unjudged: toggles.j, save, ask: toggles['?'],
  rts: toggles.r, not: toggles.n, unsure: toggles.u, back: () => go(at - 1), forward: () => go(at + 1),
  unmark: () => { const {verdict} = entry(item().id); change(item().id, {points: [], ...(verdict === 'rts' ? {verdict: null} : {})}); say(''); refresh(); },
  discard: () => { if (!isDrawing) change(item().id, {outline: null}); stopDrawing('Outline discarded.'); },
  open: () => find('file').click(), start: takeName, rename: () => askName(), forget, helped: () => closeDialog('help'),
  later: () => closeDialog('done'), finish: () => { closeDialog('done'); save(); },
};
for (const [id, act] of Object.entries(clicks)) find(id).addEventListener('click', act);
find('file').addEventListener('change', () => {
  if (find('file').files.length) openFile(find('file').files[0]);
  find('file').value = '';
});
find('note').addEventListener('input', () => {
  const {verdict, time} = entry(item().id);
  change(item().id, {note: find('note').value});
  if (verdict === null) state.kept[item().id].time = time;
});

// Keys of crosshair and drawing come before those of the page; whether one was used.
function pressedWhilePointing({key, shiftKey, target}) {
  if (cross && key in STEPS) moveCross(key, shiftKey);
  else if (cross && key === ' ' && target.tagName !== 'BUTTON') clickAt(cross);
  else if (isDrawing && key === 'Enter' && target.tagName !== 'BUTTON') closeOutline();
  else if (isDrawing && key === 'Backspace') undoCorner();
  else if (isDrawing && key === 'Escape') stopDrawing('Outline discarded.');
  else if (cross && key === 'Escape') toggleCross();
  else return false;
  return true;
}

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  if (event.target.matches('input, textarea')) {
    if (event.key === 'Escape') find('view').focus();
    return;
  }
  const turns = {ArrowLeft: -1, Backspace: -1, ArrowRight: 1};
  const act = toggles[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (pressedWhilePointing(event)) event.preventDefault();
  else if (event.key in turns) {
    event.preventDefault();
    go(at + turns[event.key]);
  } else if (act) {
    event.preventDefault();
    act();
  }
});
addEventListener('storage', event => {  // the same page in another tab
  if (event.key !== KEY) return;
  load();
  drawItem();
});

// ---------------------------------------------------------------- start
items.forEach((_, k) => {
  const cell = document.createElement('i');
  cell.addEventListener('click', () => go(k));
  find('strip').append(cell);
});
for (const button of document.querySelectorAll('main button, header button')) {
  const key = button.querySelector('kbd');
  if (key) button.setAttribute('aria-keyshortcuts', key.textContent === '⌫' ? 'Backspace' : key.textContent);
}
find('message').addEventListener('click', () => say(''));
find('strip').classList.toggle('many', items.length > 120);
load();
at = Math.max(0, items.findIndex(({id}) => id === state.at));
isDrawing = entry(item().id).corners.length > 0;
drawItem();
if (!state.reviewer) askName();
document.documentElement.dataset.ready = Math.round(performance.now());
})();
