# Makefile - one build for everything. `make help` lists the targets.

BUILD  ?= build
CC     ?= gcc
OPT    ?= -O2
WARN   := -Wall -Wextra -Wconversion -Wshadow -Werror
# Bits are a contract: no contraction of a*b+c but where the source says fma.
CFLAGS += -std=gnu17 $(OPT) -g $(WARN) -I. -ffp-contract=off -D_GNU_SOURCE \
          -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE -pthread $(EXTRA_CFLAGS)
LDFLAGS += -pie -Wl,-z,relro,-z,now -pthread $(EXTRA_LDFLAGS)
LDLIBS := -lmicrohttpd -ljansson -lpcre2-8 -linih -lhwloc -lm

FLOORS := $(wildcard config kernels cache engine server)
SRC    := $(shell find $(FLOORS) -name '*.c')
TESTS  := $(filter %_test.c,$(SRC))
FUZZ   := $(filter %_fuzz.c,$(SRC))
MAINS  := server/main.c
LIBSRC := $(filter-out $(TESTS) $(FUZZ) $(MAINS),$(SRC))
LIBOBJ := $(LIBSRC:%.c=$(BUILD)/%.o)
TESTBIN := $(TESTS:%.c=$(BUILD)/%)

.DEFAULT_GOAL := all
.PHONY: all test clean format format-check

all: $(BUILD)/fathomd

$(BUILD)/fathomd: $(BUILD)/server/main.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libfathom.a: $(LIBOBJ)
	rm -f $@ && ar rcs $@ $^

# Kernels choose their instructions at run time; the suffix says which ones a file may use.
$(BUILD)/%_avx2.o: ARCH := -O3 -mavx2 -mfma -mf16c
$(BUILD)/%_avx512.o: ARCH := -O3 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(ARCH) -MMD -MP -c -o $@ $<

$(BUILD)/%_test: $(BUILD)/%_test.o $(BUILD)/libfathom.a
	$(CC) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

test: $(TESTBIN)
	@failed=0; for t in $(TESTBIN); do $$t || failed=1; done; exit $$failed

format:
	clang-format -i $(shell find $(FLOORS) -name '*.[ch]')

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
