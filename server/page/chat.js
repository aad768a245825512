/* chat.js - the conversation, and one answer at a time under way.
 *
 *   turns: user { role, text }
 *          answer { role, text, thought, calls [{ id, name, arguments, result }], ... }
 *
 *   an answer's state:  queued -> reading -> thinking -> writing -> done
 *                       whatever happens, it ends in done, with a note if not all went well
 *
 * It is kept in memory alone. turns.js shows it. */

const turns = [];
let running = null;  // { answer, abort }: the one under way
let tools = [];      // as the API wants them; page.js reads them from the settings

const seconds = () => performance.now() / 1000;

function newAnswer() {
    return { role: 'assistant', text: '', thought: '', calls: [], state: 'queued', note: null, finish: null, usage: null,
        asked: seconds(), first: 0, last: 0, thoughtFrom: 0, thoughtFor: 0, promptTokens: 0, knownTokens: 0 };
}

/* ---- what is sent ---- */

const NO_RESULT = 'No result was given.';

function spoken(answer) {
    const message = { role: 'assistant', content: answer.text || null };
    if (answer.thought) message.reasoning_content = answer.thought;
    if (!answer.calls.length) return answer.text ? [message] : [];
    message.tool_calls = answer.calls.map((call) =>
        ({ id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments } }));
    return [message, ...answer.calls.map((call) =>
        ({ role: 'tool', tool_call_id: call.id, content: call.result }))];
}

function requestBody() {
    const messages = turns.flatMap((turn) => (turn.role === 'user' ? [{ role: 'user', content: turn.text }] : spoken(turn)));
    const system = $('system').value.trim(), mode = document.querySelector('[name=mode]:checked').value;
    if (system) messages.unshift({ role: 'system', content: system });
    const body = { model: $('model').value || undefined, messages, stream: true, stream_options: { include_usage: true },
        thinking: { type: mode === 'off' ? 'disabled' : 'enabled' } };
    if (mode !== 'off') body.reasoning_effort = mode;
    for (const name of ['temperature', 'top_p', 'max_tokens'])
        if ($(name).value !== '') body[name] = Number($(name).value);
    if (tools.length) body.tools = tools;
    return body;
}

/* ---- what comes ---- */

const START_WORTH_TELLING = 1.5;  // seconds without a token, from which on the prompt's size is asked for

/* The prompt's size, roughly: the count that Anthropic's clients ask for knows no calls. */
async function countPrompt(answer, body, signal) {
    const said = (message) => [message.content, ...(message.tool_calls ?? []).map((call) => call.function.arguments)];
    const messages = body.messages.filter((message) => message.role !== 'system').map((message) =>
        ({ role: message.role === 'assistant' ? 'assistant' : 'user', content: said(message).filter(Boolean).join('\n') }));
    try {
        const response = await ask('v1/messages/count_tokens', { signal, body: {
            model: body.model, messages, system: $('system').value.trim() || undefined } });
        answer.promptTokens = (await response.json()).input_tokens ?? 0;
    } catch { /* it is only told if it is known */ }
}

/* `hit=1280 tier=host miss=unknown@1280`, of the header or of a comment: the prompt is being read now. */
function takeCache(answer, text) {
    const hit = /(?:^|\s)hit=(\d+)/.exec(text ?? '');
    if (!hit) return;
    answer.knownTokens = Number(hit[1]);
    if (answer.state === 'queued') answer.state = 'reading';
}

function takeCall(answer, piece) {
    const call = (answer.calls[piece.index] ??= { id: '', name: '', arguments: '', result: null });
    if (piece.id) call.id = piece.id;
    if (piece.function?.name) call.name = piece.function.name;
    call.arguments += piece.function?.arguments ?? '';
}

function takeDelta(answer, delta) {
    const now = seconds();
    if (!delta.reasoning_content && !delta.content && !delta.tool_calls) return;
    answer.first ||= now;
    answer.last = now;
    if (delta.reasoning_content) {
        answer.thoughtFrom ||= now;
        answer.thought += delta.reasoning_content;
        answer.state = 'thinking';
        return;
    }
    endThought(answer, now);
    answer.state = 'writing';
    answer.text += delta.content ?? '';
    for (const piece of delta.tool_calls ?? []) takeCall(answer, piece);
}

function endThought(answer, now) {
    if (answer.thoughtFrom && !answer.thoughtFor) answer.thoughtFor = Math.max(0.001, now - answer.thoughtFrom);
}

function takeChunk(answer, chunk) {
    if (chunk.error) throw troubleOf(500, chunk.error);
    const choice = chunk.choices?.[0];
    if (chunk.usage) answer.usage = chunk.usage;
    if (choice?.delta) takeDelta(answer, choice.delta);
    if (choice?.finish_reason) answer.finish = choice.finish_reason;
}

/* The end of the connection is waited for after [DONE] too: a client that hangs up is one that left. */
async function takeStream(answer, response) {
    let whole = false;
    takeCache(answer, response.headers.get('X-Fathom-Cache'));
    for await (const event of events(response.body)) {
        if (event.data === '[DONE]') whole = true;
        else if (event.data) takeChunk(answer, JSON.parse(event.data));
        if (event.comment?.startsWith('x-fathom-cache:')) takeCache(answer, event.comment.slice(15));
        showSoon(answer);
    }
    if (!whole) throw new Trouble('The connection ended before the answer did.', { retry: true });
}

/* ---- one answer ---- */

const ENDINGS = {
    length: 'The answer reached its limit of tokens.',
    insufficient_system_resource: 'The server had to cut this answer short.',
};

function endNote(answer) {
    const text = ENDINGS[answer.finish];
    if (text) return { text, kind: 'plain' };
    if (answer.text || answer.calls.length) return null;
    return { text: 'The model ended without an answer.', kind: 'plain' };
}

async function answerNow() {
    const answer = newAnswer(), abort = new AbortController(), body = requestBody();
    turns.push(answer);
    addTurn(answer);
    running = { answer, abort };
    showRunning();
    const slow = setTimeout(() => countPrompt(answer, body, abort.signal), START_WORTH_TELLING * 1000);
    try {
        await takeStream(answer, await ask('v1/chat/completions', { body, signal: abort.signal }));
        answer.note = endNote(answer);
    } catch (error) {
        if (!(error instanceof Trouble) && error.name !== 'AbortError') console.error(error);
        const trouble = error instanceof Trouble ? error : new Trouble('Something in this page went wrong: ' + error.message);
        answer.note = abort.signal.aborted ? { text: 'Stopped.', kind: 'plain' } : { text: trouble.message, kind: 'bad', trouble };
    }
    clearTimeout(slow);
    endThought(answer, answer.last);
    answer.calls = answer.finish === 'tool_calls' ? answer.calls.filter(Boolean) : [];  // a half call can not be sent back
    answer.state = 'done';
    running = null;
    if (answer.note?.trouble?.status === 503 || answer.note?.trouble?.status === 0) watchHealth();
    showTurn(answer);
    showRunning();
}

function stopAnswer() {
    running?.abort.abort();
}

function say(text) {
    if (running || !text.trim()) return false;
    const open = turns.at(-1)?.calls?.filter((call) => call.result === null) ?? [];
    for (const call of open) call.result = NO_RESULT;
    if (open.length) showTurn(turns.at(-1));
    const turn = { role: 'user', text };
    turns.push(turn);
    addTurn(turn);
    answerNow();
    return true;
}

/* Drops the turn and all after it. */
function dropFrom(turn) {
    const at = turns.indexOf(turn);
    for (const gone of turns.splice(at)) removeTurn(gone);
}

function answerAgain(answer) {
    if (running) return;
    dropFrom(answer);
    answerNow();
}

function sayInstead(turn, text) {
    if (running || !text.trim()) return;
    dropFrom(turn);
    say(text);
}

/* A person's answer to a call; the last one that was missing sends them all. */
function answerCall(answer, call, result) {
    call.result = result;
    showTurn(answer);
    if (!running && answer === turns.at(-1) && answer.calls.every((each) => each.result !== null)) answerNow();
}

function forget() {
    stopAnswer();
    while (turns.length) removeTurn(turns.pop());
    showRunning();
}
