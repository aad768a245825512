# Makefile - one build for everything. `make help` lists the targets.

BUILD  ?= build
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
OPT    ?= -O2
KERNEL_OPT ?= -O3
WARN   ?= -Wall -Wextra -Wconversion -Wshadow -Werror
PREFIX ?= /usr/local

# Bits are a contract: no contraction of a*b+c but where the source says fma.
CFLAGS  += -std=gnu17 $(OPT) -g $(WARN) -I. -ffp-contract=off -D_GNU_SOURCE \
           $(if $(filter -O0,$(OPT)),,-D_FORTIFY_SOURCE=2) -fstack-protector-strong -fPIE -pthread \
           $(EXTRA_CFLAGS)
# The run path is that of a bundle, and holds for the libraries of libraries too.
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../lib' -pthread $(EXTRA_CFLAGS)
# CUDA=yes needs nvcc 13 when it builds, and a GPU only when it runs. Sanitizer builds go without.
CUDA   ?= $(if $(EXTRA_CFLAGS),no,$(if $(shell command -v nvcc),yes,no))
NVCC   ?= nvcc
NVFLAGS := -std=c++20 -O3 -lineinfo -gencode=arch=compute_90a,code=sm_90a -cudart static -I. -Xptxas -v \
           -Xcompiler -fPIE,-Wall,-Wextra,-Wno-missing-field-initializers -D_GNU_SOURCE

LDLIBS  := -lmicrohttpd -lnettle -ljansson -lpcre2-8 -linih -lhwloc -luring -lzstd -lm

# A file's name says what it is: *_test.c a cmocka program, *_fuzz.c a libFuzzer target, *_bench.c a
# measurement, *_tool.c a program that the daemon's tests ask, server/main.c the daemon; everything else
# is the library they share.
FLOORS   := $(wildcard config kernels cache engine server)
SRC      := $(filter-out $(if $(filter yes,$(CUDA)),,kernels/cuda/%),$(shell find $(FLOORS) -name '*.c'))
CUDA_SRC := $(if $(filter yes,$(CUDA)),$(shell find kernels -name '*.cu'))
TEST_SRC := $(sort $(filter %_test.c,$(SRC)))
FUZZ_SRC := $(sort $(filter %_fuzz.c,$(SRC)))
BENCH_SRC := $(sort $(filter-out engine/fathom_bench.c,$(filter %_bench.c,$(SRC))))
TOOL_SRC := $(sort $(filter %_tool.c,$(SRC)))
PROGRAMS := server/main.c engine/fathom_bench.c
LIB_SRC  := $(filter-out $(TEST_SRC) $(FUZZ_SRC) $(BENCH_SRC) $(TOOL_SRC) $(PROGRAMS),$(SRC))
OBJ      := $(SRC:%.c=$(BUILD)/%.o)
LIB_OBJ  := $(CUDA_SRC:%.cu=$(BUILD)/%.cu.o) $(LIB_SRC:%.c=$(BUILD)/%.o)
ifeq ($(CUDA),yes)
CFLAGS   += -DFATHOM_CUDA
CUDA_LIB := $(dir $(realpath $(shell command -v $(NVCC))))../lib64
LDLIBS   += -L$(CUDA_LIB) -lcudart_static -lstdc++ -lrt -ldl
endif
TESTS    := $(TEST_SRC:%.c=$(BUILD)/%)
BENCHES  := $(BENCH_SRC:%.c=$(BUILD)/%)
TOOLS    := $(TOOL_SRC:%.c=$(BUILD)/%)
FUZZERS  := $(FUZZ_SRC:%.c=$(BUILD)/%)

# The goals of a fresh machine get their packages first; the others take the machine as it is.
KINDS := $(if $(filter run test unit-test api-test check bench deb packages,$(MAKECMDGOALS)),build) \
         $(if $(filter deb,$(MAKECMDGOALS)),deb) \
         $(if $(filter test unit-test api-test check,$(MAKECMDGOALS)),test) \
         $(if $(filter check,$(MAKECMDGOALS)),check page) $(if $(filter page-test,$(MAKECMDGOALS)),build test page)
ifneq ($(strip $(KINDS)),)
MAKEFLAGS += -j$(shell nproc)
$(OBJ) $(BUILD)/venv/ready: | packages
endif

.DEFAULT_GOAL := all
.PHONY: all run test unit-test api-test page-test check asan asan-api tsan tsan-api valgrind valgrind-api fuzz fuzzers tidy layers \
        kernels-check docs docs-check format format-check bench bundle deb install clean help packages

all: $(BUILD)/fathomd $(BUILD)/fathomctl $(BUILD)/fathom-bench $(TOOLS)  ## the daemon and the benchmark of its model

$(BUILD)/fathomd: $(BUILD)/server/main.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The page as it is served: its sources without indentation and comments, and its scripts as one.
PAGE    := $(BUILD)/server/page
SQUEEZE := sed -e 's/^ *//' -e 's/   *\/\/ .*//' -e '/^\/\*.*\*\/$$/d' -e '/^\/\*/,/\*\/$$/d' -e '/^$$/d'
$(PAGE)/page.js: $(patsubst %,server/page/%.js,dom markdown api chat turns metrics page)
$(PAGE)/page.css $(PAGE)/index.html $(PAGE)/icon.svg: $(PAGE)/%: server/page/%
$(addprefix $(PAGE)/,page.js page.css index.html icon.svg):
	@mkdir -p $(@D)
	cat $^ | $(SQUEEZE) $(if $(@:%.css=),,-e 's/\([{;:,]\) /\1/g' -e 's/ {/{/g' -e 's/;* *}/}/g') >$@
$(BUILD)/server/page.o: $(addprefix $(PAGE)/,page.js page.css index.html icon.svg)
$(BUILD)/server/page.o: ARCH += -Wa,-I$(PAGE)

# The same program by another name: what it is called says what it is.
$(BUILD)/fathomctl: $(BUILD)/fathomd
	ln -sf fathomd $@

$(BUILD)/fathom-bench: $(BUILD)/engine/fathom_bench.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libfathom.a: $(LIB_OBJ)
	rm -f $@ && ar rcs $@ $^

# Kernels choose their instructions at run time; the suffix says which ones a file may use.
$(BUILD)/%_avx2.o: ARCH += $(KERNEL_OPT) -mavx2 -mfma -mf16c
$(BUILD)/%_avx512.o: ARCH += $(KERNEL_OPT) -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi

# Fuzzers look at what reads input. Arithmetic gains nothing from their instrumentation, and clang
# takes ten minutes over a single vector kernel with it. The other sanitizers do look at kernels, but
# unrolled, or with a check for each register's scope, one file would take minutes and gigabytes.
ifneq ($(findstring fuzzer,$(EXTRA_CFLAGS)),)
$(BUILD)/kernels/%.o: ARCH += -fno-sanitize=all -DUNROLL=
else ifneq ($(findstring sanitize,$(EXTRA_CFLAGS)),)
$(BUILD)/kernels/cpu/%.o: ARCH += -DUNROLL= -fno-sanitize-address-use-after-scope \
                                  -fno-var-tracking-assignments -Wno-maybe-uninitialized
$(BUILD)/%_avx2.o $(BUILD)/%_avx512.o: ARCH += -fno-sanitize=undefined
endif

$(BUILD)/server/revision.o: ARCH += $(patsubst %,-DFATHOM_REVISION='"%"',$(shell git rev-parse --short=12 HEAD 2>/dev/null))
$(BUILD)/server/revision.o: $(wildcard .git/logs/HEAD)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ARCH) -MMD -MP -c -o $@ $<

# The compiler's report stays beside the object: `make kernels-check` reads it.
$(BUILD)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(NVCC) $(NVFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< 2>$(@:.o=.report) || (cat $(@:.o=.report); rm -f $@; exit 1)

$(BUILD)/%_test: $(BUILD)/%_test.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

# Where tests say which allocations fail (cache/scarce.h).
$(BUILD)/cache/shadow_walk_test $(BUILD)/cache/no_memory_test: \
  LDFLAGS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc

$(BUILD)/%_bench: $(BUILD)/%_bench.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%_tool: $(BUILD)/%_tool.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%_fuzz: $(BUILD)/%_fuzz.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

packages:
	@docker/packages $(KINDS)

run: $(BUILD)/fathomd  ## gets what is missing, builds, serves the pilot model on 127.0.0.1:8000
	$(BUILD)/fathomd serve $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

test: $(BUILD)/fathomctl $(TESTS) $(TOOLS) $(BUILD)/venv/ready  ## every unit test, then the daemon's own tests
	@.ci/tests $(BUILD) --api $(TESTS)

unit-test: $(TESTS)  ## the unit tests alone
	@.ci/tests $(BUILD) $(TESTS)

api-test: $(BUILD)/fathomctl $(TOOLS) $(BUILD)/venv/ready  ## the daemon seen from outside, by its real clients
	@.ci/tests $(BUILD) --api

$(BUILD)/venv/ready: $(wildcard api-tests/requirements.txt)
	@python3 -m venv $(@D)
	@$(@D)/bin/pip install -qq --disable-pip-version-check -r api-tests/requirements.txt
	@touch $@

page-test: $(BUILD)/fathomd $(TOOLS) $(BUILD)/venv/ready  ## the built-in page in a headless Chromium
	@API_TESTS="$(wildcard api-tests/test_page*.py)" .ci/tests $(BUILD) --api

CHECKS := asan tsan valgrind fuzz kernels-check tidy layers docs-check format-check page-test
check: $(BUILD)/fathomd  ## what `make test` leaves out: sanitizers, fuzzers, tidy, layers, format
	@.ci/check $(BUILD) $(CHECKS)

# ---- other builds of the same, each in a directory of its own
ASAN := BUILD=$(BUILD)/asan OPT=-O1 KERNEL_OPT=-O1 EXTRA_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all"
TSAN := BUILD=$(BUILD)/tsan OPT=-O1 KERNEL_OPT=-O1 EXTRA_CFLAGS=-fsanitize=thread
FUZZ := BUILD=$(BUILD)/fuzz CC=clang OPT=-O1 KERNEL_OPT=-O1 WARN= \
        EXTRA_CFLAGS="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all"
# Random walks that take minutes by themselves are shorter under a sanitizer, and have longer.
FEWER := TEST_SECONDS=1800 FATHOM_BITS_STEPS=100 FATHOM_CANCEL_ROUNDS=8 FATHOM_STORE_STEPS=1000 FATHOM_WALK=20000 FATHOM_TALKS=24
# Thread errors need threads: the kernels' single-threaded arithmetic is left out, and so are thousands of
# steps through an engine whose threads engine_test has.
THREADED := $(filter-out engine/cache_b% engine/model_resume%,$(filter config/% kernels/cpu/pool% cache/disk% cache/io% \
    cache/store% engine/% server/%,$(TEST_SRC)))

asan:  ## unit tests under the address and undefined-behaviour sanitizers
	@$(FEWER) $(MAKE) $(ASAN) unit-test

tsan:  ## tests of everything with threads under the thread sanitizer
	@$(FEWER) $(MAKE) $(TSAN) TEST_SRC="$(THREADED)" unit-test

VALGRIND_TESTS := $(filter $(BUILD)/config/%,$(TESTS))
valgrind: $(VALGRIND_TESTS)  ## the ground floor's tests under valgrind
	@TEST_WRAPPER="valgrind -q --error-exitcode=9 --leak-check=full" \
	    .ci/tests $(BUILD)/valgrind $(VALGRIND_TESTS)

# The daemon's own tests in other builds: as many tests, fewer rounds, no examination of the model.
FEWER_ROUNDS := CROWD=1000 CANCELS=400 HANG_UPS=160 STREAM_PAIRS=40 PLAN_SECONDS=60 PYTEST_ADDOPTS="-k 'not examination and not planted'"

asan-api: $(BUILD)/venv/ready  ## the daemon's own tests against a sanitizer build, leaks included
	@$(MAKE) $(ASAN) all
	@$(FEWER_ROUNDS) FATHOMD=$(BUILD)/asan/fathomd .ci/tests $(BUILD) --api

THREADED_API := $(patsubst %,api-tests/test_%.py,shutdown disconnect limits stream_equals_answer)
tsan-api: $(BUILD)/venv/ready  ## those of many requests at once under the thread sanitizer
	@$(MAKE) $(TSAN) all
	@$(FEWER_ROUNDS) API_TESTS="$(THREADED_API)" FATHOMD=$(BUILD)/tsan/fathomd .ci/tests $(BUILD) --api

VALGRIND_API := $(patsubst %,api-tests/test_%.py,health shutdown http bad_input tokenize models)
valgrind-api: $(BUILD)/fathomd $(BUILD)/venv/ready  ## the daemon's tests under valgrind, slow
	@$(FEWER_ROUNDS) API_TESTS="$(VALGRIND_API)" \
	    DAEMON_WRAPPER="valgrind -q --error-exitcode=9 --leak-check=full" .ci/tests $(BUILD) --api

fuzz:  ## every fuzz target for FUZZ_SECONDS (30)
	@$(MAKE) $(FUZZ) fuzzers
	@.ci/fuzz $(BUILD)/fuzz $(FUZZ_SRC:%.c=$(BUILD)/fuzz/%)

fuzzers: $(FUZZERS)

# ---- what tools say about the sources
SOURCES := $(shell find $(FLOORS) -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh')

# Of the daemon alone: the analyzer does not know that a failed assertion ends a test.
tidy:  ## clang-tidy
	@printf '%s\n' $(filter-out %_avx2.c %_avx512.c,$(LIB_SRC)) server/main.c | xargs -P $$(nproc) -n 2 sh -c \
	    'clang-tidy --quiet "$$@" -- -std=gnu17 -I. -D_GNU_SOURCE 2>&1 | grep -v "warnings* generated" \
	     | grep -E "warning:|error:" && exit 1 || exit 0' tidy

kernels-check: $(CUDA_SRC:%.cu=$(BUILD)/%.cu.o)  ## what the compiler says of every GPU kernel: no spills
	@.ci/kernels $(BUILD) $(CUDA_SRC)

layers:  ## includes that climb, libraries past their door
	@.ci/layers

docs: $(BUILD)/fathomd  ## prints docs/OPTIONS.md and config/sample.ini from the option table
	@$(BUILD)/fathomd options --markdown >docs/OPTIONS.md
	@$(BUILD)/fathomd options --ini >config/sample.ini

docs-check: $(BUILD)/fathomd
	@$(BUILD)/fathomd options --markdown | diff docs/OPTIONS.md - && \
	 $(BUILD)/fathomd options --ini | diff config/sample.ini -
	@grep -oE '[a-z_]+_test\.[a-z0-9_]+' docs/CACHE_INVARIANTS.md | sort -u | while IFS=. read -r file test; do \
	    grep -qsw "static void $$test" cache/$$file.c engine/$$file.c || { echo "docs/CACHE_INVARIANTS.md: no $$file.$$test"; exit 1; }; done

format:  ## clang-format
	@clang-format -i $(SOURCES)

format-check:
	@clang-format --dry-run -Werror $(SOURCES)

PILOT_BENCH := --model models/pilot --weights checkpoint --batches 1,4,16 --contexts 512 --prompts 512 --chunk 512
bench: all $(BENCHES)  ## every measurement
	@for bench in $(BENCHES) "$(BUILD)/fathom-bench kernels $(PILOT_BENCH)" "$(BUILD)/fathom-bench step $(PILOT_BENCH)"; \
	    do echo "== $$bench"; $$bench || exit 1; done

install: all  ## into PREFIX (/usr/local), below DESTDIR
	install -D -t $(DESTDIR)$(PREFIX)/bin $(BUILD)/fathomd
	ln -sf fathomd $(DESTDIR)$(PREFIX)/bin/fathomctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fathom/models/pilot \
	    $(wildcard models/pilot/*.json models/pilot/model-*.safetensors models/pilot/README.md)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/fathom config/sample.ini LICENSE README.md
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system docker/fathom.service docker/fathom.socket
	sed -i 's|/usr/bin/fathomd|$(PREFIX)/bin/fathomd|' $(DESTDIR)$(PREFIX)/lib/systemd/system/fathom.service
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	for name in fathomd fathomctl; do docker/manpage $(DESTDIR)$(PREFIX)/bin/$$name $$name \
	    $$(sed -nE 's/.*FATHOM_VERSION "(.*)"/\1/p' config/options.h) \
	    >$(DESTDIR)$(PREFIX)/share/man/man8/$$name.8 || exit 1; done

bundle: all  ## a relocatable folder, BUILD/bundle: programs, libraries, pilot; then runs it elsewhere
	@docker/bundle $(BUILD) $(BUILD)/bundle
	@docker/bundle-check $(BUILD)/bundle

deb: packages all  ## a Debian package, BUILD/fathom_VERSION_ARCH.deb
	@docker/deb $(BUILD)
	@docker/deb-check $(BUILD)/fathom_*.deb

clean:  ## removes BUILD
	rm -rf $(BUILD)

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 14

-include $(OBJ:.o=.d) $(CUDA_SRC:%.cu=$(BUILD)/%.cu.d)
