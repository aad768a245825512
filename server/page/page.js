/* page.js - the frame around chat and metrics: views, settings, keys, and how the server is. */

/* ---- views ---- */

function showView() {
    const metrics = location.hash === '#metrics';
    $('chat').hidden = metrics;
    $('metrics').hidden = !metrics;
    $('to-chat').toggleAttribute('aria-current', !metrics);
    $('to-metrics').toggleAttribute('aria-current', metrics);
    document.title = metrics ? 'Fathom metrics' : 'Fathom';
    if (metrics) pollMetrics();
    else toEnd();
}

/* ---- how the server is ---- */

const health = { state: 'unknown', detail: '' };
let healthTimer = 0;

function showHealth(state, text, detail = '') {
    const wasReady = health.state === 'ready';
    Object.assign(health, { state, detail });
    $('health').dataset.state = state;
    setText($('health-text'), text);
    $('health').title = detail;
    if (state === 'ready' && !wasReady) loadModels();
}

async function watchHealth() {
    clearTimeout(healthTimer);
    try {
        await ask('ready', { open: true });
        showHealth('ready', 'ready');
    } catch (error) {
        const progress = /: (.*)$/.exec(error.message)?.[1].replace(/\.$/, '') ?? '';
        if (error.code === 'loading') showHealth('loading', 'loading', progress);
        else showHealth(error.status ? 'failing' : 'away', error.code === 'draining' ? 'stopping' : error.status ? 'not ready' : 'no connection', error.message);
    }
    if (health.state === 'loading') setText($('health-text'), 'loading ' + (/\d+ %/.exec(health.detail)?.[0] ?? ''));
    if (document.visibilityState === 'visible')
        healthTimer = setTimeout(watchHealth, health.state === 'ready' ? 15000 : 1000);
}

/* ---- models ---- */

async function loadModels() {
    try {
        const { data } = await (await ask('v1/models')).json();
        const chosen = $('model').value;
        $('model').replaceChildren(...data.map((model) => el('option', { value: model.id, selected: model.id === chosen }, model.id)));
        showModel(data);
        $('model').onchange = () => showModel(data);
    } catch (error) {
        setText($('about-model'), error.status === 401 ? 'This server asks for an API key: it is entered in the settings.' : error.message);
    }
}

function showModel(data) {
    const model = data.find((each) => each.id === $('model').value) ?? data[0];
    if (model) setText($('about-model'), model.id + ' reads up to ' + count(model.context_length) + ' tokens.');
}

/* ---- settings ---- */

const EXAMPLE = [{ name: 'get_weather', description: 'Get the weather for a city', parameters: {
    type: 'object', required: ['city'], properties: { city: { type: 'string', description: 'The city' } } } }];

/* A list of functions, bare or as the API has them. */
function readTools() {
    const text = $('tools').value.trim(), note = $('tools-note');
    let wrong = '';
    tools = [];
    try {
        const list = text ? JSON.parse(text) : [];
        if (!Array.isArray(list) || !list.every((tool) => (tool?.function ?? tool)?.name)) wrong = 'Wanted: a list of functions, each with a name.';
        else tools = list.map((tool) => (tool.type === 'function' ? tool : { type: 'function', function: tool }));
    } catch (error) {
        wrong = 'This is no JSON yet: ' + error.message;
    }
    note.classList.toggle('bad', wrong !== '');
    setText(note, wrong || (tools.length ? plural(tools.length, 'tool') + ': their calls are shown, and answered by you.'
                                         : 'A JSON list of functions. Their calls are shown, and answered by you.'));
}

function openSettings(field) {
    $('settings').showModal();
    if (field) $(field).focus();
}

function startSettings() {
    $('key').value = sessionStorage.getItem(KEY) ?? '';
    $('key').addEventListener('change', () => {
        const key = $('key').value.trim();
        if (key) sessionStorage.setItem(KEY, key);
        else sessionStorage.removeItem(KEY);
        loadModels();
    });
    $('tools').addEventListener('input', readTools);
    $('example-tool').addEventListener('click', () => {
        $('tools').value = JSON.stringify(EXAMPLE, null, 2);
        readTools();
    });
    $('open-settings').addEventListener('click', () => openSettings());
    $('close-settings').addEventListener('click', () => $('settings').close());
    $('settings').addEventListener('click', (event) => event.target === $('settings') && $('settings').close());
}

/* ---- writing ---- */

function sendMessage() {
    if (running) return stopAnswer();
    if (!say($('message').value)) return;
    $('message').value = '';
    grow($('message'));
}

function startChat() {
    const message = $('message');
    message.addEventListener('input', () => grow(message));
    message.addEventListener('keydown', (event) => {
        if (!isSend(event)) return;
        event.preventDefault();
        if (!running) sendMessage();
    });
    $('send').addEventListener('click', () => {
        sendMessage();
        message.focus();
    });
    $('fresh').addEventListener('click', () => {
        forget();
        message.focus();
    });
    $('latest').addEventListener('click', toEnd);
    $('scroller').addEventListener('scroll', noteScroll, { passive: true });
    new ResizeObserver(keepEnd).observe($('scroller'));
    document.addEventListener('keydown', (event) => {
        if (event.key === 'Escape' && !$('settings').open) stopAnswer();
    });
}

startChat();
startSettings();
startMetrics();
showRunning();
showView();
watchHealth();
window.addEventListener('hashchange', showView);
window.addEventListener('pagehide', stopAnswer);  // a page that is kept to come back to would read on
document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible') return;
    watchHealth();
    pollMetrics();
});
