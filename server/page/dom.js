/* dom.js - elements made by calls. Text goes in as text nodes, so nothing that anybody wrote can become
 * markup; there is no innerHTML in this page. */

const $ = (id) => document.getElementById(id);

function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
        if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
        else if (value === true) node.setAttribute(name, '');
        else if (value !== false && value != null) node.setAttribute(name, value);
    }
    for (const child of children.flat()) if (child != null) node.append(child);  // an answer has too many to spread
    return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
    fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

function button(text, action, attributes) {
    return el('button', { type: 'button', onclick: action, ...attributes }, text);
}

function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

/* 1234567 as 1,234,567, and 0.1234 with the digits that matter. */
function count(value) {
    return Math.round(value).toLocaleString('en');
}

function short(value) {
    if (value >= 1e6) return (value / 1e6).toFixed(1) + 'M';
    if (value >= 1e4) return (value / 1e3).toFixed(0) + 'k';
    return value >= 100 ? count(value) : value >= 10 ? value.toFixed(1) : value.toFixed(value ? 2 : 0);
}

function span(seconds) {
    if (seconds < 1) return Math.max(1, Math.round(seconds * 1000)) + ' ms';
    if (seconds < 100) return seconds.toFixed(1) + ' s';
    return Math.floor(seconds / 60) + ' min ' + Math.round(seconds % 60) + ' s';
}

const plural = (n, word) => count(n) + ' ' + word + (n === 1 ? '' : 's');

/* Where the page has no clipboard (plain HTTP from elsewhere), a selection that is copied. */
async function copyText(text, from) {
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        const area = el('textarea', { class: 'sr', tabindex: '-1' });
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand('copy');
        area.remove();
    }
    const before = from.textContent;
    if (before === 'Copied') return;
    from.textContent = 'Copied';
    setTimeout(() => (from.textContent = before), 1200);
}
