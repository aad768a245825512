/* names.c - sorted lists, searched by halves. */
#include "engine/grammar/names.h"
#include "engine/grammar/set_table.h"

void names_release(struct names *names)
{
    free(names->text);
    free(names->name);
    free(names->list);
    *names = (struct names){ 0 };
}

/* ---- adding ---- */

uint32_t names_begin(struct names *names)
{
    if (!ARRAY_ROOM(names->list, names->lists, names->list_room, NAME_LISTS_MOST, &names->status))
        return 0;
    names->list[names->lists] = (struct name_list){ .name = names->count };
    return names->lists++;
}

void names_add(struct names *names, struct slice name, uint8_t way, uint8_t mark)
{
    must(name.size > 0 && name.size <= NAME_BYTES_MOST);
    if (!ARRAY_ROOM(names->name, names->count, names->name_room, NAMES_MOST, &names->status))
        return;
    while (names->status == OK && names->text_room < names->bytes + name.size)
        (void)ARRAY_ROOM(names->text, names->text_room, names->text_room, NAMES_BYTES_MOST,
                         &names->status);
    if (names->status != OK) return;
    names->name[names->count++] = (struct name){
        .text = names->bytes, .size = (uint16_t)name.size, .way = way, .mark = mark
    };
    memcpy(names->text + names->bytes, name.data, name.size);
    names->bytes += (uint32_t)name.size;
    names->list[names->lists - 1].count++;
}

static int by_bytes(const void *a, const void *b, void *text)
{
    const struct name *left = a, *right = b;
    size_t size = left->size < right->size ? left->size : right->size;
    int order = memcmp((char *)text + left->text, (char *)text + right->text, size);
    return order ? order : (int)left->size - (int)right->size;
}

void names_end(struct names *names)
{
    if (names->status != OK) return;
    struct name_list *list = &names->list[names->lists - 1];
    if (list->count)
        qsort_r(names->name + list->name, list->count, sizeof *names->name, by_bytes, names->text);
}

static void *trimmed(void *array, size_t size)
{
    void *smaller = realloc(array, size);
    return smaller ? smaller : array;
}

void names_trim(struct names *names)
{
    names->text = trimmed(names->text, names->bytes + 1);
    names->name = trimmed(names->name, (names->count + 1) * sizeof *names->name);
    names->list = trimmed(names->list, (names->lists + 1) * sizeof *names->list);
}

size_t names_bytes(const struct names *names)
{
    return names->bytes + 1 + (names->count + 1) * sizeof *names->name +
           (names->lists + 1) * sizeof *names->list;
}

/* ---- the way through ---- */

/* Names that begin with some bytes and then one more. */
struct prefix {
    const struct names *names;
    const struct name *name;  // [count] of the list
    uint32_t count;
    const char *text;  // of a name that has those bytes
    uint32_t bytes;
};

static struct prefix prefix_at(const struct names *names, uint32_t list, uint32_t place)
{
    struct name_list l = names->list[list];
    const struct name *name = names->name + l.name;
    uint32_t first = place >> NAME_PLACE_BITS;
    must(first < l.count);
    return (struct prefix){ names, name, l.count, names->text + name[first].text,
                            place & ((1u << NAME_PLACE_BITS) - 1) };
}

/* Below 0: before all that begin with the prefix and `byte`; 0: one of these; above 0: behind them. */
static int compare(const struct prefix *p, uint32_t index, unsigned byte)
{
    const struct name *name = &p->name[index];
    const char *text = p->names->text + name->text;
    int order = memcmp(text, p->text, name->size < p->bytes ? name->size : p->bytes);
    if (order) return order;
    if (name->size <= p->bytes) return -1;
    return (int)(uint8_t)text[p->bytes] - (int)byte;
}

/* The first name from `from` on that is not before those. */
static uint32_t first_with(const struct prefix *p, uint32_t from, unsigned byte)
{
    uint32_t to = p->count;
    while (from < to) {
        uint32_t middle = (from + to) / 2;
        if (compare(p, middle, byte) < 0) from = middle + 1;
        else to = middle;
    }
    return from;
}

static bool was_seen(const struct name *name, uint64_t seen)
{
    return name->mark != NAME_UNMARKED && (seen >> name->mark & 1);
}

bool names_step(const struct names *names, uint32_t list, uint64_t seen, uint8_t byte,
                uint32_t *place)
{
    struct prefix p = prefix_at(names, list, *place);
    uint32_t first = first_with(&p, *place >> NAME_PLACE_BITS, byte);
    for (uint32_t i = first; i < p.count && compare(&p, i, byte) == 0; i++)
        if (!was_seen(&p.name[i], seen)) {
            *place = first << NAME_PLACE_BITS | (p.bytes + 1);
            return true;
        }
    return false;
}

const struct name *names_whole(const struct names *names, uint32_t list, uint64_t seen,
                               uint32_t place)
{
    struct prefix p = prefix_at(names, list, place);
    const struct name *name = &p.name[place >> NAME_PLACE_BITS];
    return name->size == p.bytes && !was_seen(name, seen) ? name : NULL;
}

unsigned names_choices(const struct names *names, uint32_t list, uint64_t seen, uint32_t place,
                       unsigned *byte)
{
    struct prefix p = prefix_at(names, list, place);
    unsigned found = 0;
    if (names_whole(names, list, seen, place)) {
        *byte = '"';
        found++;
    }
    for (uint32_t i = first_with(&p, place >> NAME_PLACE_BITS, 0); i < p.count && found < 2;) {
        uint8_t next = (uint8_t)p.names->text[p.name[i].text + p.bytes];
        uint32_t after = place;
        if (compare(&p, i, next) != 0) break;  // of another prefix
        if (names_step(names, list, seen, next, &after)) {
            *byte = next;
            found++;
        }
        i = first_with(&p, i, next + 1u);
    }
    return found;
}
