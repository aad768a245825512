/* shape_test.c - a config.json is read whole or refused by the field that is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/buf.h"
#include "engine/model_writer.h"

static const char good[] =
    "{\"model_type\": \"deepseek_v4\", \"vocab_size\": 3072, \"hidden_size\": 256,"
    " \"num_hidden_layers\": 4, \"num_attention_heads\": 6, \"num_key_value_heads\": 1,"
    " \"head_dim\": 512, \"qk_rope_head_dim\": 64, \"q_lora_rank\": 128, \"o_groups\": 3,"
    " \"o_lora_rank\": 128, \"sliding_window\": 128, \"index_n_heads\": 8,"
    " \"index_head_dim\": 128, \"index_topk\": 128, \"moe_intermediate_size\": 256,"
    " \"n_routed_experts\": 8, \"n_shared_experts\": 1, \"num_experts_per_tok\": 2,"
    " \"num_hash_layers\": 3, \"scoring_func\": \"sqrtsoftplus\", \"topk_method\": \"noaux_tc\","
    " \"norm_topk_prob\": true, \"routed_scaling_factor\": 1.5, \"swiglu_limit\": 10.0,"
    " \"hidden_act\": \"silu\", \"hc_mult\": 4, \"hc_sinkhorn_iters\": 20, \"hc_eps\": 1e-06,"
    " \"rms_norm_eps\": 1e-06, \"rope_theta\": 10000, \"compress_rope_theta\": 160000,"
    " \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 16, \"beta_fast\": 32, \"beta_slow\": 1,"
    " \"original_max_position_embeddings\": 65536}, \"max_position_embeddings\": 1048576,"
    " \"num_nextn_predict_layers\": 1, \"expert_dtype\": \"fp4\","
    " \"compress_ratios\": [0, 4, 128, 4, 0], \"quantization_config\": {\"fmt\": \"e4m3\","
    " \"quant_method\": \"fp8\", \"scale_fmt\": \"ue8m0\", \"weight_block_size\": [128, 128]},"
    " \"tie_word_embeddings\": false, \"bos_token_id\": 0, \"eos_token_id\": 1}";

static char dir[] = "/tmp/fathom-shape-XXXXXX";

static void put_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

/* Reads the good config with `from` replaced by `to`. */
static enum status read_with(const char *from, const char *to, struct shape *shape, struct err *err)
{
    char text[sizeof good + 512];
    const char *at = strstr(good, from);

    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    put_file("config.json", text);
    *err = (struct err){ "" };
    return shape_read(dir, shape, err);
}

static void every_field_arrives(void **unused)
{
    struct shape s;
    struct err err;
    (void)unused;

    assert_int_equal(read_with("{", "{", &s, &err), OK);
    assert_int_equal(s.vocab, 3072);
    assert_int_equal(s.layers, 4);
    assert_int_equal(s.heads, 6);
    assert_int_equal(s.o_groups, 3);
    assert_int_equal(s.experts_per_token, 2);
    assert_true(s.routed_scaling == 1.5f && s.swiglu_limit == 10.0f && s.hc_eps == 1e-6f);
    assert_int_equal(s.expert_type, DT_I8);
    assert_int_equal(s.drafter, DRAFTER_MTP);
    assert_int_equal(s.drafter_blocks, 1);
    assert_int_equal(s.layer[2].ratio, 128);
    assert_true(s.layer[2].hashed && !s.layer[3].hashed && !s.layer[4].hashed);
    assert_int_equal(s.eos, 1);
}

static void each_wrong_field_has_its_sentence(void **unused)
{
    static const struct {
        const char *from, *to, *sentence;
    } cases[] = {
        { "\"deepseek_v4\"", "\"deepseek_v3\"",
          "model_type: found \"deepseek_v3\", wanted \"deepseek_v4\"" },
        { "\"deepseek_v4\"", "\"deepseek_v41\"",
          "model_type: found \"deepseek_v41\" (DeepSeek-V4.1), another architecture that this "
          "version does not serve yet, wanted \"deepseek_v4\"" },
        { "\"model_type\"", "\"type\"", "model_type: found nothing, wanted \"deepseek_v4\"" },
        { "\"hidden_size\": 256", "\"hidden_size\": \"256\"",
          "hidden_size: found \"256\", wanted a whole number from 128 to 131072" },
        { "\"hidden_size\": 256", "\"hidden_size\": 256.5",
          "hidden_size: found 256.5, wanted a whole number from 128 to 131072" },
        { "\"hidden_size\": 256", "\"hidden_size\": -256",
          "hidden_size: found -256, wanted a whole number from 128 to 131072" },
        { "\"hidden_size\": 256", "\"hidden_size\": 200",
          "hidden_size: found 200, wanted a multiple of 128" },
        { "\"hidden_size\": 256", "\"hidden_size\": 9223372036854775807",
          "hidden_size: found 9223372036854775807, wanted a whole number from 128 to 131072" },
        { "\"hidden_size\": 256,", "",
          "hidden_size: found nothing, wanted a whole number from 128 "
          "to 131072" },
        { "\"hidden_size\": 256", "\"hidden_size\": null",
          "hidden_size: found null, wanted a whole number from 128 to 131072" },
        { "\"head_dim\": 512", "\"head_dim\": 128", "head_dim: found 128, wanted 512" },
        { "\"sliding_window\": 128", "\"sliding_window\": 4096",
          "sliding_window: found 4096, wanted 128" },
        { "\"o_groups\": 3", "\"o_groups\": 4",
          "num_attention_heads: found 6, wanted a multiple of o_groups, 4" },
        { "\"o_groups\": 3", "\"o_groups\": 0",
          "o_groups: found 0, wanted a whole number from 1 to 1024" },
        { "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9",
          "num_experts_per_tok: found 9, wanted at most n_routed_experts, 8" },
        { "\"num_hash_layers\": 3", "\"num_hash_layers\": 5",
          "num_hash_layers: found 5, wanted at most num_hidden_layers, 4" },
        { "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 5",
          "compress_ratios: found 5 entries, wanted 6: num_hidden_layers and "
          "num_nextn_predict_layers" },
        { "[0, 4, 128, 4, 0]", "[0, 4, 128, 4, 4]",
          "compress_ratios[4]: found 4, wanted 0, as in every drafter block" },
        { "[0, 4, 128, 4, 0]", "[0, 8, 128, 4, 0]",
          "compress_ratios[1]: found 8, wanted 0, 4 or 128" },
        { "[0, 4, 128, 4, 0]", "{\"0\": 4}",
          "compress_ratios: found an object, wanted a list of 0, 4 and 128" },
        { "\"sqrtsoftplus\"", "\"sigmoid\"",
          "scoring_func: found \"sigmoid\", wanted \"sqrtsoftplus\"" },
        { "\"norm_topk_prob\": true", "\"norm_topk_prob\": 1",
          "norm_topk_prob: found 1, wanted true" },
        { "\"n_shared_experts\": 1", "\"n_shared_experts\": 2",
          "n_shared_experts: found 2, wanted 1" },
        { "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true",
          "tie_word_embeddings: found true, wanted false" },
        { "\"swiglu_limit\": 10.0", "\"swiglu_limit\": 0",
          "swiglu_limit: found 0, wanted a number from 0.001 to 1e+06" },
        { "\"type\": \"yarn\"", "\"type\": \"linear\"",
          "rope_scaling.type: found \"linear\", wanted \"yarn\"" },
        { "\"factor\": 16", "\"factor\": true",
          "factor: found true, wanted a number from 1 to 1e+06" },
        { "[128, 128]", "[32, 32]",
          "quantization_config.weight_block_size: found an array, wanted [128, 128]" },
        { "\"ue8m0\"", "\"float\"", "scale_fmt: found \"float\", wanted \"ue8m0\"" },
        { "\"fp4\"", "\"int4\"", "expert_dtype: found \"int4\", wanted \"fp4\" or \"fp8\"" },
        { "\"eos_token_id\": 1", "\"eos_token_id\": 3072",
          "eos_token_id: found 3072, wanted the id of a token" },
        { "\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 2",
          "num_nextn_predict_layers: found 2, wanted a whole number from 0 to 1" },
        { "\"original_max_position_embeddings\": 65536",
          "\"original_max_position_embeddings\": 2097152",
          "original_max_position_embeddings: found 2097152, wanted at most "
          "max_position_embeddings, 1048576" },
        { "\"index_topk\": 128", "\"index_topk\": 1e400", "" },
        { "\"model_type\"", "model_type", "" },
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shape s;
        struct err err;
        char start[128];
        assert_int_equal(read_with(cases[i].from, cases[i].to, &s, &err), BAD_INPUT);
        snprintf(start, sizeof start, "%s/config.json: ", dir);
        assert_int_equal(strncmp(err.text, start, strlen(start)), 0);
        if (cases[i].sentence[0]) assert_string_equal(err.text + strlen(start), cases[i].sentence);
    }
}

static void deep_or_foreign_json_is_refused(void **unused)
{
    struct shape s;
    struct err err = { "" };
    char *deep = malloc(1000001);
    (void)unused;

    memset(deep, '[', 1000000);
    deep[1000000] = 0;
    put_file("config.json", deep);
    assert_int_equal(shape_read(dir, &s, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "nested deeper than 128 levels"));
    free(deep);
    put_file("config.json", "[1, 2]");
    assert_int_equal(shape_read(dir, &s, &err), BAD_INPUT);
    assert_non_null(strstr(err.text, "config.json: found an array, wanted an object"));
    put_file("config.json", "");
    assert_int_equal(shape_read(dir, &s, &err), BAD_INPUT);
    assert_int_equal(shape_read("/nowhere", &s, &err), IO_FAILED);
    assert_string_equal(err.text, "/nowhere/config.json: No such file or directory");
}

static void variants_are_told_apart(void **unused)
{
    struct shape s;
    struct err err;
    (void)unused;

    assert_int_equal(read_with("\"fp4\"", "\"fp8\"", &s, &err), OK);
    assert_int_equal(s.expert_type, DT_F8_E4M3);
    assert_false(s.expert_type_implied);
    assert_int_equal(read_with("\"expert_dtype\": \"fp4\",", "", &s, &err), OK);
    assert_true(s.expert_type_implied);
    assert_int_equal(read_with("\"compress_ratios\": [0, 4, 128, 4, 0]",
                               "\"compress_ratios\": [0, 4, 128, 4, 0, 0, 0],"
                               "\"dspark_block_size\": 5, \"dspark_markov_rank\": 256,"
                               "\"dspark_target_layer_ids\": [1, 2, 3]",
                               &s, &err),
                     OK);
    assert_int_equal(s.drafter, DRAFTER_DSPARK);
    assert_int_equal(s.drafter_blocks, 3);
    assert_int_equal(s.dspark_targets, 3);
    assert_int_equal(read_with("\"head_dim\"", "\"vision_config\": {}, \"head_dim\"", &s, &err),
                     OK);
    assert_true(s.vision);
}

/* What model_writer writes for a release, shape_read reads back. */
static void the_releases_read_back_as_they_were_written(void **unused)
{
    static const char *const names[] = { "flash", "pro", "flash-base", "flash-0731", "pro-0813" };
    (void)unused;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        static struct shape written, read;
        struct err err = { "" };
        assert_true(shape_of_release(names[i], &written));
        struct buf text;
        buf_init(&text, 0);
        model_config(&written, &text);
        buf_add_byte(&text, 0);
        put_file("config.json", text.data);
        buf_release(&text);
        assert_int_equal(shape_read(dir, &read, &err), OK);
        assert_memory_equal(&written, &read, sizeof read);
    }
    struct shape none;
    assert_false(shape_of_release("v3", &none));
}

static void sampling_defaults_come_from_generation_config(void **unused)
{
    static const struct {
        const char *text, *sentence;
    } bad[] = {
        { "[]", "found an array, wanted an object" },
        { "{\"temperature\": -1}", "temperature: found -1, wanted a number from 0 to 2" },
        { "{\"top_p\": 0}", "top_p: found 0, wanted a number from 1e-06 to 1" },
        { "{\"do_sample\": 1}", "do_sample: found 1, wanted true or false" },
        { "{\"top_k\": 1.5}", "top_k: found 1.5, wanted a whole number from 0 to 16777216" },
    };
    struct generation g;
    struct err err = { "" };
    (void)unused;

    assert_int_equal(generation_read("/nowhere", &g, &err), OK);
    assert_true(g.temperature == 1 && g.top_p == 1 && g.min_p == 0 && g.top_k == 0);
    put_file("generation_config.json", "{\"do_sample\": true, \"temperature\": 0.3, \"top_k\": 5}");
    assert_int_equal(generation_read(dir, &g, &err), OK);
    assert_true(g.temperature == 0.3f && g.top_k == 5 && g.top_p == 1);
    put_file("generation_config.json", "{\"do_sample\": false, \"temperature\": 0.3}");
    assert_int_equal(generation_read(dir, &g, &err), OK);
    assert_true(g.temperature == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file("generation_config.json", bad[i].text);
        assert_int_equal(generation_read(dir, &g, &err), BAD_INPUT);
        assert_non_null(strstr(err.text, bad[i].sentence));
    }
}

/* model.md 4.4: pairs up to 15 as they are, from 25 on divided by the factor, a ramp between. */
static void frequencies_follow_yarn_on_compressed_layers_only(void **unused)
{
    struct shape s;
    struct err err;
    float plain[32], scaled[32];
    (void)unused;

    assert_int_equal(read_with("{", "{", &s, &err), OK);
    shape_rope_frequencies(&s, 0, plain);
    shape_rope_frequencies(&s, 4, scaled);
    for (int i = 0; i < 32; i++) {
        double base = pow(10000, -2.0 * i / 64), high = pow(160000, -2.0 * i / 64);
        double ramp = fmin(fmax((i - 15) / 10.0, 0), 1);
        double wanted = high / 16 * ramp + high * (1 - ramp);
        assert_true(fabs(plain[i] - base) < 2e-7 * base);
        assert_true(fabs(scaled[i] - wanted) < 4e-7 * wanted);
    }
    assert_true(plain[0] == 1 && scaled[0] == 1);
}

static int make_dir(void **unused)
{
    (void)unused;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **unused)
{
    char path[128];
    (void)unused;
    snprintf(path, sizeof path, "%s/config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_arrives),
        cmocka_unit_test(each_wrong_field_has_its_sentence),
        cmocka_unit_test(deep_or_foreign_json_is_refused),
        cmocka_unit_test(variants_are_told_apart),
        cmocka_unit_test(the_releases_read_back_as_they_were_written),
        cmocka_unit_test(sampling_defaults_come_from_generation_config),
        cmocka_unit_test(frequencies_follow_yarn_on_compressed_layers_only),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
