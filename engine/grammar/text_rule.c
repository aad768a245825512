/* text_rule.c - how characters are put together, times what must not be spelled.
 *
 * The first factor is a mode (between characters, inside one, inside an escape), the second the
 * longest suffix that begins a mark (Aho and Corasick). The states are the reachable pairs.
 */
#include "engine/grammar/text_rule.h"
#include "engine/text/dialect.h"

enum {
    NODES_MOST = 160,  // of all marks of a kind, one for each byte
    MODES = 20,
};

static const struct mark {
    struct slice text;
    bool exits;  // ends the text, rather than being refused
    uint8_t kinds;
} marks[] = {
    { SLICE("<" DSML_TEXT), false,
      1 << TEXT_JSON | 1 << TEXT_RAW | 1 << TEXT_REASONING | 1 << TEXT_CONTENT },
    { SLICE("</" DSML_TEXT), false, 1 << TEXT_JSON | 1 << TEXT_RAW },
    { SLICE(DSML_TEXT), false, 1 << TEXT_REASONING | 1 << TEXT_CONTENT },
    { SLICE(EOS_TEXT), false, 1 << TEXT_JSON | 1 << TEXT_RAW },
    { SLICE(THINK_CLOSE_TEXT), false, 1 << TEXT_JSON },
    { SLICE(THINK_CLOSE_TEXT), true, 1 << TEXT_REASONING },
};
enum { MARKS = sizeof marks / sizeof *marks };

bool text_rule_has_mark(struct slice text)
{
    for (size_t i = 0; i < MARKS; i++) {
        if (!(marks[i].kinds & 1 << TEXT_JSON)) continue;
        if (text.size && memmem(text.data, text.size, marks[i].text.data, marks[i].text.size))
            return true;
    }
    return false;
}

/* ---- the longest suffix that begins a mark ---- */

enum node_end { GOES_ON, REFUSED, EXITS };

struct suffixes {
    uint16_t count;
    uint16_t next[NODES_MOST][256];
    enum node_end end[NODES_MOST];
};

static void suffixes_add(struct suffixes *s, const struct mark *mark)
{
    uint16_t at = 0;
    for (size_t i = 0; i < mark->text.size; i++) {
        uint8_t byte = (uint8_t)mark->text.data[i];
        if (!s->next[at][byte]) {
            must(s->count < NODES_MOST);
            s->next[at][byte] = s->count++;
        }
        at = s->next[at][byte];
    }
    s->end[at] = mark->exits ? EXITS : REFUSED;
}

/* Turns the tree into the automaton: where no child is, the child of the longest proper suffix. */
static void suffixes_close(struct suffixes *s)
{
    uint16_t suffix[NODES_MOST] = { 0 }, queue[NODES_MOST], to = 0;
    queue[to++] = 0;
    for (uint16_t from = 0; from < to; from++) {
        uint16_t node = queue[from];
        for (unsigned byte = 0; byte < 256; byte++) {
            uint16_t child = s->next[node][byte], fallback = s->next[suffix[node]][byte];
            if (!child) {
                s->next[node][byte] = node ? fallback : 0;
                continue;
            }
            suffix[child] = node ? fallback : 0;
            if (s->end[child] == GOES_ON) s->end[child] = s->end[suffix[child]];
            queue[to++] = child;
        }
    }
}

/* ---- how characters are put together ---- */

enum mode {
    BODY,  // between characters
    MORE_1,
    MORE_2,
    MORE_3,  // continuation bytes to come
    AFTER_E0,
    AFTER_ED,
    AFTER_F0,
    AFTER_F4,  // as above, and the next one is restricted
    ESCAPE,    // after a backslash
    HEX_FIRST,
    HEX_AFTER_D,
    HEX_3,
    HEX_2,
    HEX_1,
    HIGH_2,
    HIGH_1,  // the rest of a high surrogate
    LOW_BACKSLASH,
    LOW_U,
    LOW_D,
    LOW_CF,  // and the low one that must follow
    EXIT_MODE = 0xfe,
    DEAD_MODE = 0xff,
};

static unsigned in_range(uint8_t byte, uint8_t from, uint8_t to, unsigned mode)
{
    return byte >= from && byte <= to ? mode : DEAD_MODE;
}

static unsigned lead(uint8_t byte)
{
    if (byte < 0x80) return BODY;
    if (byte < 0xc2 || byte > 0xf4) return DEAD_MODE;
    if (byte < 0xe0) return MORE_1;
    if (byte == 0xe0) return AFTER_E0;
    if (byte == 0xed) return AFTER_ED;
    if (byte < 0xf0) return MORE_2;
    return byte == 0xf0 ? AFTER_F0 : byte == 0xf4 ? AFTER_F4 : MORE_3;
}

static unsigned escape(uint8_t byte)
{
    if (byte == 'u') return HEX_FIRST;
    return byte && strchr("\"\\/bfnrt", byte) ? BODY : DEAD_MODE;
}

static unsigned hex(uint8_t byte, unsigned mode)
{
    return byte && strchr("0123456789abcdefABCDEF", byte) ? mode : DEAD_MODE;
}

static unsigned after_d(uint8_t byte)
{
    if (byte >= '0' && byte <= '7') return HEX_2;
    return byte && strchr("89abAB", byte) ? HIGH_2 : DEAD_MODE;
}

static unsigned utf8_step(unsigned mode, uint8_t byte)
{
    switch (mode) {
    case MORE_1:
        return in_range(byte, 0x80, 0xbf, BODY);
    case MORE_2:
        return in_range(byte, 0x80, 0xbf, MORE_1);
    case MORE_3:
        return in_range(byte, 0x80, 0xbf, MORE_2);
    case AFTER_E0:
        return in_range(byte, 0xa0, 0xbf, MORE_1);
    case AFTER_ED:
        return in_range(byte, 0x80, 0x9f, MORE_1);
    case AFTER_F0:
        return in_range(byte, 0x90, 0xbf, MORE_2);
    case AFTER_F4:
        return in_range(byte, 0x80, 0x8f, MORE_2);
    default:
        return lead(byte);
    }
}

static unsigned json_step(unsigned mode, uint8_t byte)
{
    switch (mode) {
    case BODY:
        if (byte == '"') return EXIT_MODE;
        if (byte == '\\') return ESCAPE;
        return byte < 0x20 ? DEAD_MODE : lead(byte);
    case ESCAPE:
        return escape(byte);
    case HEX_FIRST:
        return byte == 'd' || byte == 'D' ? HEX_AFTER_D : hex(byte, HEX_3);
    case HEX_AFTER_D:
        return after_d(byte);
    case HEX_3:
        return hex(byte, HEX_2);
    case HEX_2:
        return hex(byte, HEX_1);
    case HEX_1:
        return hex(byte, BODY);
    case HIGH_2:
        return hex(byte, HIGH_1);
    case HIGH_1:
        return hex(byte, LOW_BACKSLASH);
    case LOW_BACKSLASH:
        return byte == '\\' ? LOW_U : DEAD_MODE;
    case LOW_U:
        return byte == 'u' ? LOW_D : DEAD_MODE;
    case LOW_D:
        return byte == 'd' || byte == 'D' ? LOW_CF : DEAD_MODE;
    case LOW_CF:
        return byte && strchr("cdefCDEF", byte) ? HEX_2 : DEAD_MODE;
    default:
        return utf8_step(mode, byte);
    }
}

static unsigned mode_step(enum text_kind kind, unsigned mode, uint8_t byte)
{
    if (kind == TEXT_JSON) return json_step(mode, byte);
    return kind == TEXT_RAW ? utf8_step(mode, byte) : BODY;
}

/* ---- their product ---- */

struct product {
    enum text_kind kind;
    struct suffixes suffixes;
    uint16_t state[MODES][NODES_MOST];  // number + 1
    uint16_t mode[MODES * NODES_MOST], node[MODES * NODES_MOST];
    uint16_t count;
};

static uint16_t product_state(struct product *p, unsigned mode, uint16_t node)
{
    if (mode >= ESCAPE) node = 0;  // an escape spells nothing
    if (!p->state[mode][node]) {
        p->mode[p->count] = (uint16_t)mode;
        p->node[p->count] = node;
        p->state[mode][node] = ++p->count;
    }
    return (uint16_t)(p->state[mode][node] - 1);
}

static uint16_t product_step(struct product *p, uint16_t from, uint8_t byte)
{
    unsigned mode = mode_step(p->kind, p->mode[from], byte);
    if (mode == DEAD_MODE) return TEXT_DEAD;
    if (mode == EXIT_MODE) return TEXT_EXIT;
    uint16_t node = p->suffixes.next[p->node[from]][byte];
    if (p->mode[from] >= ESCAPE) node = 0;
    if (p->suffixes.end[node] == REFUSED) return TEXT_DEAD;
    if (p->suffixes.end[node] == EXITS) return TEXT_EXIT;
    return product_state(p, mode, node);
}

enum status text_rule_init(struct text_rule *rule, enum text_kind kind)
{
    *rule = (struct text_rule){ 0 };
    struct product *p = calloc(1, sizeof *p);
    if (!p) return NO_MEMORY;
    p->kind = kind;
    p->suffixes.count = 1;
    for (size_t i = 0; i < MARKS; i++)
        if (marks[i].kinds & 1 << kind) suffixes_add(&p->suffixes, &marks[i]);
    suffixes_close(&p->suffixes);

    product_state(p, BODY, 0);
    rule->next = calloc((size_t)MODES * NODES_MOST, sizeof *rule->next);
    rule->boundary = calloc((size_t)MODES * NODES_MOST, sizeof *rule->boundary);
    if (!rule->next || !rule->boundary) {
        free(p);
        text_rule_release(rule);
        return NO_MEMORY;
    }
    for (uint16_t from = 0; from < p->count; from++) {
        rule->boundary[from] = p->mode[from] == BODY;
        for (unsigned byte = 0; byte < 256; byte++)
            rule->next[from][byte] = product_step(p, from, (uint8_t)byte);
    }
    rule->count = p->count;
    rule->after_open = rule->next[0]['<'];
    uint16_t slash = rule->next[rule->after_open]['/'];
    rule->after_open_slash = slash < rule->count ? slash : 0;
    free(p);
    return OK;
}

void text_rule_release(struct text_rule *rule)
{
    free(rule->next);
    free(rule->boundary);
    *rule = (struct text_rule){ 0 };
}
