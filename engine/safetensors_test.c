/* safetensors_test.c - a file is read as it is, or refused by the tensor and the number that is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/buf.h"
#include "engine/safetensors.h"

static char dir[] = "/tmp/fathom-tensors-XXXXXX";

/* A file of this header and `data_bytes` zeros behind it. */
static void make_file(struct buf *out, const char *header, size_t data_bytes)
{
    uint64_t size = strlen(header);

    buf_init(out, 0);
    buf_add(out, &size, 8);
    buf_add(out, header, size);
    for (size_t i = 0; i < data_bytes; i++) buf_add_byte(out, 0);
    assert_int_equal(buf_status(out), OK);
}

static enum status read_header(const char *header, size_t data_bytes, struct st_header *read,
                               struct arena *arena, struct err *err)
{
    struct buf file;

    make_file(&file, header, data_bytes);
    char *copy = malloc(file.size);  // so that the sanitizer sees a read past the end
    memcpy(copy, file.data, file.size);
    enum status status =
        st_header_read("FILE", (struct slice){ copy, file.size }, arena, read, err);
    if (status == OK && read->count) {  // names point into the file
        read->tensor[0].name = arena_copy(arena, read->tensor[0].name);
        read->tensor[0].type_name = arena_copy(arena, read->tensor[0].type_name);
    }
    free(copy);
    buf_release(&file);
    return status;
}

static void a_header_is_read_whole(void **unused)
{
    struct st_header header;
    struct arena arena;
    struct err err = { "" };
    (void)unused;

    arena_init(&arena, 0);
    assert_int_equal(read_header(" {\"__metadata__\":{\"format\":\"pt\"},\n\"a\\u00e9\\n\\\"\" : "
                                 "{\"shape\":[2,3],\"data_offsets\":[8,20],\"dtype\":\"BF16\"} ,"
                                 "\"b\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}} ",
                                 20, &header, &arena, &err),
                     OK);
    assert_int_equal(header.count, 2);
    const struct st_tensor *a = &header.tensor[0];
    assert_true(slice_equal(a->name, SLICE("a\xc3\xa9\n\"")));
    assert_int_equal(a->type, DT_BF16);
    assert_int_equal(a->dims, 2);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->bytes, 12);
    assert_int_equal(header.tensor[1].dims, 0);
    assert_int_equal(header.tensor[1].bytes, 8);
    assert_int_equal(a->begin, header.tensor[1].begin + 8);
    free(header.tensor);
    assert_int_equal(read_header("{}", 0, &header, &arena, &err), OK);
    assert_int_equal(header.count, 0);
    free(header.tensor);
    arena_release(&arena);
}

#define T(name, type, shape, offsets)                                                              \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void each_wrong_header_has_its_sentence(void **unused)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *sentence;
    } cases[] = {
        { "", 0, "the header ends, wanted '{'" },
        { "hello", 0, "header byte 8: found 'h', wanted '{'" },
        { "[]", 0, "header byte 8: found '[', wanted '{'" },
        { "{\"a\"", 0, "the header ends, wanted ':'" },
        { "{\"a\":", 0, "the header ends in tensor a, wanted '{'" },
        { "{\"a", 0, "the header ends, wanted the string's closing quote" },
        { "{\"a\\", 0, "the header ends, wanted the rest of an escape" },
        { "{\"a\\q\":1}", 0, "header byte 12: found 'q', wanted an escape of JSON" },
        { "{\"\\ud800\":1}", 0, "header byte 11: found 'u', wanted an escape of JSON" },
        { "{\"a\tb\":1}", 0,
          "header byte 11: found 0x09, wanted a string without control "
          "characters" },
        { "{\"\xff\":1}", 0, "header byte 12: found ':', wanted UTF-8 in the string before" },
        { "{\"\":{}}", 0, "found a tensor's name of 0 bytes, wanted 1 to 256, none zero" },
        { "{" T("a", "F32", "[1]", "[0,4]") "} x", 4,
          "header byte 63: found 'x', wanted nothing after the header's object" },
        { "{" T("a", "F32", "[1]", "[0,4]") ",}", 4,
          "header byte 62: found '}', wanted a tensor's name in quotes" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4,
          "tensor a: wanted a dtype, a shape and two data_offsets" },
        { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4,
          "header byte 35 in tensor a: found ':', wanted dtype, shape and data_offsets, once" },
        { "{" T("a", "F32", "[1]", "[0]") "}", 4,
          "tensor a: wanted a dtype, a shape and two data_offsets" },
        { "{" T("a", "F32", "[1]", "[0,1,2]") "}", 4,
          "header byte 60 in tensor a: found '2', wanted fewer numbers in the list" },
        { "{" T("a", "F32", "[-1]", "[0,4]") "}", 4,
          "header byte 37 in tensor a: found '-', wanted a whole number" },
        { "{" T("a", "F32", "[1.5]", "[0,4]") "}", 4,
          "header byte 38 in tensor a: found '.', wanted ',' or ']'" },
        { "{" T("a", "F32", "[01]", "[0,4]") "}", 4,
          "header byte 37 in tensor a: found '0', wanted a whole number" },
        { "{" T("a", "F32", "[18446744073709551616]", "[0,4]") "}", 4,
          "header byte 56 in tensor a: found '6', wanted a number below 2^64" },
        { "{" T("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4,
          "tensor a: F32 [4294967296, 4294967296] has more than 2^64 bytes" },
        { "{" T("a", "Q4_K", "[1]", "[0,4]") "}", 4,
          "tensor a: found dtype Q4_K, which is not known" },
        { "{" T("a", "F32", "[2]", "[0,4]") "}", 4,
          "tensor a: found 4 bytes in data_offsets, wanted 8 for F32 [2]" },
        { "{" T("a", "F32", "[1]", "[4,0]") "}", 4,
          "tensor a: found data_offsets [4, 0], wanted them inside the file's 4 bytes of data" },
        { "{" T("a", "F32", "[1]", "[4,8]") "}", 4,
          "tensor a: found data_offsets [4, 8], wanted them inside the file's 4 bytes of data" },
        { "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[4,8]") "}", 8,
          "tensor b: begins at byte 4 of the data, inside a, which ends at 8" },
        { "{" T("a", "F32", "[1]", "[4,8]") "}", 8,
          "tensor a: begins at byte 4 of the data, and bytes from 0 on belong to no tensor" },
        { "{" T("a", "F32", "[1]", "[0,4]") "}", 9,
          "found 9 bytes of data, wanted the 4 that its tensors have" },
        { "{\"__metadata__\":{\"a\":1}}", 0, "header byte 29: found '1', wanted a string" },
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_header header;
        struct arena arena;
        struct err err = { "" };
        arena_init(&arena, 0);
        assert_int_equal(read_header(cases[i].header, cases[i].data_bytes, &header, &arena, &err),
                         BAD_INPUT);
        assert_int_equal(strncmp(err.text, "FILE: ", 6), 0);
        assert_string_equal(err.text + 6, cases[i].sentence);
        assert_null(header.tensor);
        arena_release(&arena);
    }
}

static void a_header_never_reaches_past_the_file(void **unused)
{
    static const char whole[] = "{" T("a", "F32", "[1]", "[0,4]") "}";
    struct st_header header;
    struct arena arena;
    struct err err;
    struct buf file;
    (void)unused;

    arena_init(&arena, 0);
    make_file(&file, whole, 4);
    for (size_t size = 0; size < file.size; size++) {
        char *copy = malloc(size + !size);
        memcpy(copy, file.data, size);
        assert_int_equal(
            st_header_read("FILE", (struct slice){ copy, size }, &arena, &header, &err), BAD_INPUT);
        free(copy);
    }
    memset(file.data, 0xff, 8);
    assert_int_equal(st_header_read("FILE", buf_slice(&file), &arena, &header, &err), BAD_INPUT);
    assert_string_equal(err.text, "FILE: found a header of 18446744073709551615 bytes, wanted at "
                                  "most 100000000");
    buf_release(&file);
    arena_release(&arena);
}

/* ---- files and index ------------------------------------------------------------------------ */

static void put(const char *name, const void *data, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void put_tensors(const char *name, const char *header, size_t data_bytes)
{
    struct buf file;
    make_file(&file, header, data_bytes);
    put(name, file.data, file.size);
    buf_release(&file);
}

static void put_index(const char *map)
{
    char text[1024];
    int size = snprintf(text, sizeof text, "{\"weight_map\": %s}", map);
    put("model.safetensors.index.json", text, (size_t)size);
}

static void tensors_are_found_through_the_index(void **unused)
{
    struct st_set set;
    struct err err = { "" };
    (void)unused;

    put_tensors("one.safetensors", "{" T("a", "F32", "[1]", "[0,4]") "}", 4);
    put_tensors("two.safetensors",
                "{" T("b", "BF16", "[2]", "[0,4]") "," T("c", "I8", "[3]", "[4,7]") "}", 7);
    put_index("{\"c\": \"two.safetensors\", \"a\": \"one.safetensors\", \"b\": "
              "\"two.safetensors\"}");
    assert_int_equal(st_open_dir(dir, &set, &err), OK);
    assert_int_equal(set.tensors, 3);
    assert_int_equal(set.files, 2);
    assert_int_equal(set.tensor_bytes, 11);
    const struct st_tensor *c = st_find(&set, SLICE("c"));
    assert_int_equal(c->type, DT_I8);
    assert_string_equal(set.file[c->file].name, "two.safetensors");
    assert_memory_equal(st_data(&set, c), "\0\0\0", 3);
    assert_null(st_find(&set, SLICE("d")));
    st_close(&set);

    char path[256];
    snprintf(path, sizeof path, "%s/two.safetensors", dir);
    assert_int_equal(st_open_file(path, &set, &err), OK);
    assert_non_null(st_find(&set, SLICE("b")));
    st_close(&set);
}

static void an_index_that_contradicts_its_files_is_refused(void **unused)
{
    static const struct {
        const char *map;
        enum status status;
        const char *sentence;  // %s: the directory
    } cases[] = {
        { "{\"a\": \"one.safetensors\", \"x\": \"one.safetensors\"}", BAD_INPUT,
          "%s/one.safetensors: tensor x is not in it, though model.safetensors.index.json says "
          "so" },
        { "{\"a\": \"one.safetensors\", \"b\": \"two.safetensors\"}", BAD_INPUT,
          "%s/two.safetensors: tensor c is not in model.safetensors.index.json" },
        { "{\"a\": \"one.safetensors\", \"b\": \"one.safetensors\", \"c\": \"two.safetensors\"}",
          BAD_INPUT,
          "model.safetensors.index.json: tensor b: found in two.safetensors, wanted in "
          "one.safetensors" },
        { "{\"a\": \"none.safetensors\"}", IO_FAILED,
          "%s/none.safetensors: No such file or directory (model.safetensors.index.json names it "
          "for tensor a)" },
        { "{\"a\": \"../one.safetensors\"}", BAD_INPUT,
          "%s/model.safetensors.index.json: weight_map.a: found \"../one.safetensors\", wanted the "
          "plain name of a file" },
        { "{\"a\": 1}", BAD_INPUT,
          "%s/model.safetensors.index.json: weight_map.a: found an integer, wanted a file's name" },
        { "{\"a\": \"one.safetensors\", \"d\": \"copy.safetensors\"}", BAD_INPUT,
          "%s/copy.safetensors: tensor a: found a second time, first in one.safetensors" },
        { "{\"e\": \"twice.safetensors\"}", BAD_INPUT,
          "%s/twice.safetensors: tensor e: found a second time, first in twice.safetensors" },
        { "{}", BAD_INPUT,
          "%s/model.safetensors.index.json: wanted an object weight_map of tensors and files" },
        { "[]", BAD_INPUT,
          "%s/model.safetensors.index.json: wanted an object weight_map of tensors and files" },
        { "{\"a\": \"empty.safetensors\"}", BAD_INPUT,
          "%s/empty.safetensors: found 0 bytes, wanted at least the 8 of a header's size" },
    };
    (void)unused;

    put("empty.safetensors", "", 0);
    put_tensors("copy.safetensors", "{" T("a", "F32", "[1]", "[0,4]") "}", 4);
    put_tensors("twice.safetensors",
                "{" T("e", "I8", "[1]", "[0,1]") "," T("e", "I8", "[1]", "[1,2]") "}", 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct st_set set;
        struct err err = { "" };
        char wanted[512], *end;
        put_index(cases[i].map);
        assert_int_equal(st_open_dir(dir, &set, &err), cases[i].status);
        const char *sentence = cases[i].sentence;
        end = stpcpy(wanted, strncmp(sentence, "%s", 2) == 0 ? dir : "");
        strcpy(end, sentence + (end == wanted ? 0 : 2));
        assert_string_equal(err.text, wanted);
    }
}

static void an_index_that_is_no_json_is_refused(void **unused)
{
    struct st_set set;
    struct err err = { "" };
    (void)unused;

    put("model.safetensors.index.json", "{\"weight_map\": ", 15);
    assert_int_equal(st_open_dir(dir, &set, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "model.safetensors.index.json"));
}

static int make_dir(void **unused)
{
    (void)unused;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **unused)
{
    static const char *const names[] = { "one", "two", "copy", "twice", "empty" };
    char path[256];
    (void)unused;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s.safetensors", dir, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_read_whole),
        cmocka_unit_test(each_wrong_header_has_its_sentence),
        cmocka_unit_test(a_header_never_reaches_past_the_file),
        cmocka_unit_test(tensors_are_found_through_the_index),
        cmocka_unit_test(an_index_that_contradicts_its_files_is_refused),
        cmocka_unit_test(an_index_that_is_no_json_is_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
