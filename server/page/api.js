/* api.js - what is asked of the server, and what went wrong, in words. The key is kept in this tab's
 * sessionStorage and nowhere else. Addresses are relative, so that a proxy may put the page anywhere. */

const KEY = 'fathom-key';

/* Why something was not answered. `text` is for people; retry: it may be tried again, from `at` (ms) on. */
class Trouble extends Error {
    constructor(text, more) {
        super(text);
        Object.assign(this, { status: 0, code: null, retry: false, at: 0 }, more);
    }
}

/* Status to words; what the server says itself stands behind them. */
const TROUBLES = {
    401: 'This server wants an API key, or another one: enter it in the settings.',
    402: 'The budget of this key is used up.',
    403: 'This key does not allow that.',
    404: 'This server does not have what was asked for.',
    413: 'This conversation is larger than the server takes.',
    429: 'This key has reached a limit.',
    500: 'The server has made a mistake.',
    503: 'The server cannot take this now.',
};
const CODES = {
    context_length_exceeded: 'This conversation is longer than the model can read. A new chat, or a shorter answer, will fit.',
    loading: 'The model is still being loaded.',
    draining: 'The server is shutting down.',
    engine_failed: 'The model has failed; the server will be started again.',
    overloaded: 'The server has more to do than it can take.',
};

function troubleOf(status, error, headers) {
    const said = String(error?.message ?? ''), code = error?.code ?? null;
    const known = CODES[code] ?? TROUBLES[status];
    const again = Number(headers?.get('Retry-After')) || (status === 503 ? 2 : 0);
    const more = said && code !== 'invalid_api_key' ? said[0].toUpperCase() + said.slice(1) : '';
    const dot = (text) => (/[.!?]$/.test(text) ? text : text + '.');
    return new Trouble([known, more && dot(more)].filter(Boolean).join(' ') || 'The server answered with status ' + status + '.',
        { status, code, retry: status >= 429, at: again ? Date.now() + again * 1000 : 0 });
}

const LOST = 'The connection to the server was lost.';

/* The answer to a request, or a Trouble. An abort stays an AbortError. */
async function ask(path, { body, signal, open } = {}) {
    const headers = {}, key = sessionStorage.getItem(KEY);
    if (key && !open) headers.Authorization = 'Bearer ' + key;
    if (body) headers['Content-Type'] = 'application/json';
    let response;
    try {
        response = await fetch(path, { method: body ? 'POST' : 'GET', headers, signal, cache: 'no-store',
            credentials: 'same-origin', body: body && JSON.stringify(body) });
    } catch (error) {
        if (error.name === 'AbortError') throw error;
        throw new Trouble('The server cannot be reached.', { retry: true });
    }
    if (response.ok) return response;
    const error = await response.json().then((said) => said.error, () => null);
    throw troubleOf(response.status, error, response.headers);
}

/* ---- server-sent events ---- */

/* Lines may end in \n, \r\n or \r, and come in pieces of any size: `rest` is the unfinished one. */
function lineCutter() {
    let rest = '';
    return (piece, last) => {
        const text = rest + piece;
        const lines = text.split(/\r\n|\n|\r(?!$)/);
        rest = last ? '' : lines.pop();
        return lines;
    };
}

/* Yields { data } for each event and { comment } for each comment of a body, until it ends. */
async function* events(body) {
    const reader = body.getReader(), decoder = new TextDecoder(), cutLines = lineCutter();
    let data = [];
    try {
        for (let last = false; !last; ) {
            const { value, done } = await reader.read();
            last = done;
            for (const line of cutLines(decoder.decode(value, { stream: !done }), done)) {
                if (line === '' && data.length) {
                    yield { data: data.join('\n') };
                    data = [];
                } else if (line.startsWith(':')) yield { comment: line.slice(1).trim() };
                else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
            }
        }
    } catch (error) {
        if (error.name === 'AbortError') throw error;
        throw new Trouble(LOST, { retry: true });
    } finally {
        reader.cancel().catch(() => {});
    }
}
