/* markdown.js - what a model wrote, as elements.
 *
 *   text -> lines -> blocks {kind, ...} -> elements
 *
 * The elements are a fixed few (below) and all text enters them as text nodes: HTML in an answer is shown
 * as it was written. Links go to http and https alone; images become links. Time is linear in the
 * text, whatever it is: searches that fail are not repeated, patterns are bounded, and nesting ends at
 * DEEPEST. While an answer grows, only the blocks that changed are made anew. */

const DEEPEST = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\s]{0,40})[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+(.*)|)$/;
const QUOTE = /^ {0,3}> ?/;
const LINK = /\[([^\[\]]{0,300})\]\([ \t]{0,3}<?(https?:\/\/[^\s<>()]{1,1900}(?:\([^\s<>()]{0,200}\)[^\s<>()]{0,500})?)>?(?:[ \t]{1,3}"[^"\n]{0,200}")?[ \t]{0,3}\)/iy;
const BARE = /https?:\/\/[^\s<>"'`|\\^{}[\]*]{1,1900}/iy;

/* ---- blocks ---- */

function fenced(lines, at, fence) {
    const mark = fence[1], inside = lines[at].length - lines[at].trimStart().length;
    let end = at + 1;
    const closes = (line) => {
        const text = line.trim();
        return text.length >= mark.length && text === mark[0].repeat(text.length);
    };
    while (end < lines.length && !closes(lines[end])) end++;
    const body = lines.slice(at + 1, end).map((line) => cut(line, inside));
    return { kind: 'code', language: fence[2], text: body.join('\n'), end: Math.min(end + 1, lines.length) };
}

/* The line without up to `most` spaces at its front. */
function cut(line, most) {
    let at = 0;
    while (at < most && line[at] === ' ') at++;
    return line.slice(at);
}

function cells(line) {
    const row = [];
    let cell = '', text = line.trim();
    if (text.startsWith('|')) text = text.slice(1);
    for (let i = 0; i < text.length; i++) {
        if (text[i] === '\\' && text[i + 1] === '|') cell += text[++i];
        else if (text[i] === '|') row.push(cell.trim()), (cell = '');
        else cell += text[i];
    }
    if (cell.trim()) row.push(cell.trim());
    return row;
}

/* The alignments of a table's second line, or null: it is none. */
function alignments(line) {
    if (!line || !line.includes('-') || !/^[\s|:-]+$/.test(line)) return null;
    const row = cells(line);
    if (!row.length || !row.every((cell) => /^:?-+:?$/.test(cell))) return null;
    return row.map((cell) => (!cell.endsWith(':') ? '' : cell.startsWith(':') ? 'middle' : 'right'));
}

function table(lines, at) {
    const aligned = lines[at].includes('|') && alignments(lines[at + 1]);
    const head = aligned && cells(lines[at]);
    if (!head || head.length !== aligned.length) return null;
    const rows = [];
    let end = at + 2;
    while (end < lines.length && lines[end].trim() && lines[end].includes('|')) rows.push(cells(lines[end++]));
    return { kind: 'table', head, aligned, rows, end };
}

function quote(lines, at) {
    const inner = [];
    let end = at;
    while (end < lines.length && QUOTE.test(lines[end])) inner.push(lines[end++].replace(QUOTE, ''));
    return { kind: 'quote', inner, end };
}

/* A list goes on with items of its own indent, with what stands deeper, and past blank lines that are
 * followed by either. */
function list(lines, at, first) {
    const indent = first[1].length, ordered = first[2].length > 1;
    const items = [];
    let end = at, blank = false, loose = false;
    for (; end < lines.length; end++) {
        const line = lines[end], item = ITEM.exec(line);
        const deep = line.length - line.trimStart().length;
        if (!line.trim()) {
            blank = true;
            continue;
        }
        const mine = item && deep < indent + 2;
        if (mine && (deep < indent || item[2].length > 1 !== ordered || RULE.test(line))) break;
        if (mine) {
            loose ||= blank && items.length > 0;
            items.push([item[3] ?? '']);
        } else {
            if (blank && deep < indent + 2) break;
            if (deep < indent + 2 && startsBlock(line)) break;
            if (blank) items.at(-1).push('');
            items.at(-1).push(cut(line, indent + first[2].length + 1));
        }
        blank = false;
    }
    return { kind: 'list', ordered, start: ordered ? parseInt(first[2], 10) : 1, items, loose, end };
}

function startsBlock(line) {
    return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line);
}

function paragraph(lines, at) {
    let end = at + 1;
    const goesOn = (line, next) =>
        line.trim() && !startsBlock(line) && !ITEM.test(line) && !(line.includes('|') && alignments(next));
    while (end < lines.length && goesOn(lines[end], lines[end + 1])) end++;
    return { kind: 'text', text: lines.slice(at, end).map((line) => line.trimStart()).join('\n').trimEnd(), end };
}

function blockAt(lines, at) {
    const line = lines[at];
    let match;
    if ((match = FENCE.exec(line))) return fenced(lines, at, match);
    if ((match = HEADING.exec(line)))
        return { kind: 'heading', level: match[1].length, text: match[2].trimEnd(), end: at + 1 };
    if (RULE.test(line)) return { kind: 'rule', end: at + 1 };
    if (QUOTE.test(line)) return quote(lines, at);
    if ((match = ITEM.exec(line))) return list(lines, at, match);
    return table(lines, at) ?? paragraph(lines, at);
}

/* Blocks in order, each with the source it came from. */
function blocksOf(lines) {
    const blocks = [];
    for (let at = 0; at < lines.length; ) {
        if (!lines[at].trim()) {
            at++;
            continue;
        }
        const block = blockAt(lines, at);
        block.source = lines.slice(at, block.end).join('\n');
        blocks.push(block);
        at = block.end;
    }
    return blocks;
}

/* ---- inside a line ---- */

function link(address, label) {
    let url;
    try {
        url = new URL(address);
    } catch {
        return null;
    }
    if (url.protocol !== 'http:' && url.protocol !== 'https:') return null;
    return el('a', { href: url.href, title: url.href, target: '_blank', rel: 'noopener noreferrer nofollow' }, label);
}

const isWord = (c) => c !== undefined && /[\p{L}\p{N}_]/u.test(c);
const isSpace = (c) => c === undefined || /\s/.test(c);

/* Where the delimiter that opened before `from` closes; -1: nowhere. */
function closing(text, mark, from) {
    for (let at = text.indexOf(mark, from + 1); at >= 0; at = text.indexOf(mark, at + 1)) {
        const after = text[at + mark.length];
        if (isSpace(text[at - 1])) continue;
        if (mark[0] === '_' && isWord(after)) continue;
        if (mark.length === 1 && (after === mark || text[at - 1] === mark)) continue;
        return at;
    }
    return -1;
}

function codeSpan(text, at, dead) {
    let size = 1;
    while (text[at + size] === '`') size++;
    const mark = '`'.repeat(size);
    for (let end = dead[mark] ? -1 : text.indexOf(mark, at + size); end >= 0; ) {
        let run = size;
        while (text[end + run] === '`') run++;
        if (run === size) {
            const inner = text.slice(at + size, end);
            const padded = inner.startsWith(' ') && inner.endsWith(' ') && inner.trim();
            return { node: el('code', null, padded ? inner.slice(1, -1) : inner), end: end + size };
        }
        end = text.indexOf(mark, end + run);
    }
    dead[mark] = true;
    return { end: at + size };
}

const EMPHASIS = { '*': 'em', '_': 'em', '**': 'strong', '__': 'strong', '~~': 's' };

function emphasis(text, at, dead, depth) {
    let size = 1;
    while (text[at + size] === text[at]) size++;
    const mark = text[at].repeat(Math.min(size, 2)), from = at + mark.length;
    const opens = EMPHASIS[mark] && size <= 3 && !isSpace(text[from]) && !(text[at] === '_' && isWord(text[at - 1]));
    if (!opens || dead[mark] || depth >= DEEPEST) return { end: at + size };
    let end = closing(text, mark, from);
    if (end < 0) {
        dead[mark] = true;
        return { end: at + size };
    }
    if (size === 3 && text[end + 2] === text[at]) end++;  // ***both***
    return { node: el(EMPHASIS[mark], null, inline(text.slice(from, end), depth + 1)), end: end + mark.length };
}

function linked(text, at) {
    LINK.lastIndex = at;
    const match = LINK.exec(text);
    const node = match && link(match[2], inline(match[1], DEEPEST));
    return { node, end: node ? LINK.lastIndex : at + 1 };
}

function bare(text, at) {
    BARE.lastIndex = at;
    const match = BARE.exec(text);
    if (!match || isWord(text[at - 1])) return { end: at + 4 };
    let address = match[0];
    while (/[.,;:!?_~]$/.test(address) || (address.endsWith(')') && !address.includes('('))) address = address.slice(0, -1);
    const node = link(address, [address]);
    return { node, end: node ? at + address.length : at + 4 };
}

/* The nodes of a run of text. Beyond DEEPEST nothing nests, and there are no links: a link's own label
 * is such a text. */
function inline(text, depth = 0) {
    const nodes = [], dead = {};
    const special = /[\\`*_~[]|https?:\/\//gi;
    let plain = 0;
    const flush = (to) => to > plain && nodes.push(text.slice(plain, to));
    for (let match; (match = special.exec(text)); ) {
        const at = match.index, c = match[0];
        let found;
        if (c === '\\') {
            if (/[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) flush(at), (plain = at + 1);
            found = { end: at + 2 };
        } else if (c === '`') found = codeSpan(text, at, dead);
        else if (c.length === 1 && c !== '[') found = emphasis(text, at, dead, depth);
        else if (depth >= DEEPEST) found = { end: at + c.length };
        else found = c === '[' ? linked(text, at) : bare(text, at);
        if (found.node) {
            flush(c === '[' && text[at - 1] === '!' ? at - 1 : at);
            nodes.push(found.node);
            plain = found.end;
        }
        special.lastIndex = found.end;
    }
    flush(text.length);
    return nodes;
}

/* ---- elements ---- */

function codeElement(block) {
    const copy = button('Copy', () => copyText(block.text, copy), { class: 'quiet' });
    return el('figure', { class: 'code' },
        el('figcaption', null, el('span', null, block.language || 'text'), copy),
        el('pre', { tabindex: '0' }, el('code', null, block.text)));
}

function tableElement(block) {
    const row = (tag, line) => el('tr', null, block.aligned.map((side, i) =>
        el(tag, { class: side || null }, inline(line[i] ?? ''))));
    return el('div', { class: 'wide', tabindex: '0' }, el('table', null,
        el('thead', null, row('th', block.head)), el('tbody', null, block.rows.map((line) => row('td', line)))));
}

function itemElement(lines, loose, depth) {
    const blocks = blocksOf(lines);
    const nodes = blocks.flatMap((block) =>
        block.kind === 'text' && !loose ? inline(block.text) : [elementOf(block, depth + 1)]);
    return el('li', null, nodes);
}

function elementOf(block, depth = 0) {
    if (depth >= DEEPEST) return el('p', null, block.source);
    switch (block.kind) {
    case 'code': return codeElement(block);
    case 'table': return tableElement(block);
    case 'rule': return el('hr');
    case 'heading': return el('h' + Math.min(6, block.level + 2), null, inline(block.text));  // h1, h2 are the page's
    case 'quote': return el('blockquote', null, blocksOf(block.inner).map((inner) => elementOf(inner, depth + 1)));
    case 'list': return el(block.ordered ? 'ol' : 'ul', { start: block.start !== 1 && block.start },
        block.items.map((lines) => itemElement(lines, block.loose, depth)));
    default: return el('p', null, inline(block.text));
    }
}

/* Makes `into` show the text; its elements whose source is still the same stay. */
function showMarkdown(into, text) {
    const blocks = blocksOf(text.replaceAll('\r\n', '\n').replaceAll('\t', '    ').split('\n'));
    const shown = into.shown ?? [];
    let same = 0;
    while (same < shown.length && same < blocks.length && shown[same] === blocks[same].source) same++;
    while (into.childNodes.length > same) into.lastChild.remove();
    for (const block of blocks.slice(same)) into.append(elementOf(block));
    into.shown = blocks.map((block) => block.source);
}
