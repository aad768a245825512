/* id_list.c - doubling, up to the limit. */
#include "engine/text/id_list.h"

void id_list_init(struct id_list *list, size_t limit)
{
    *list = (struct id_list){ .limit = limit };
}

void id_list_release(struct id_list *list)
{
    free(list->id);
    *list = (struct id_list){ .limit = list->limit };
}

void id_list_clear(struct id_list *list)
{
    list->count = 0;
    list->status = OK;
}

bool id_list_reserve(struct id_list *list, size_t more)
{
    if (list->status != OK) return false;
    if (list->limit && (more > list->limit || list->count > list->limit - more)) {
        list->status = TOO_LONG;
        return false;
    }
    if (more <= list->room - list->count) return true;

    size_t room = list->room ? list->room * 2 : 64;
    if (room < list->count + more) room = list->count + more;
    if (list->limit && room > list->limit) room = list->limit;
    uint32_t *id = reallocarray(list->id, room, sizeof *id);
    if (!id) {
        list->status = NO_MEMORY;
        return false;
    }
    list->id = id;
    list->room = room;
    return true;
}
