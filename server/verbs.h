/* verbs.h - what `fathomd VERB ...` can do. Each verb is one file, server/verb_NAME.c, takes the
 * arguments after its name, and returns the exit code: 0 done, 1 failed, 2 wrong use. */
#ifndef SERVER_VERBS_H
#define SERVER_VERBS_H

int verb_serve(int argc, char **argv);       // the daemon; the default verb
int verb_tokenize(int argc, char **argv);    // {"text"} -> {"ids"}
int verb_encode(int argc, char **argv);      // messages -> {"name","prompt","ids"}
int verb_parse(int argc, char **argv);       // model output -> reasoning, content, calls
int verb_golden(int argc, char **argv);      // the forward pass against golden files
int verb_plan(int argc, char **argv);        // the memory table, from headers alone
int verb_make_model(int argc, char **argv);  // a checkpoint of random or no data
int verb_cache(int argc, char **argv);       // a cache directory, for its operator
int verb_keys(int argc, char **argv);        // tenants' API keys, for their operator
int verb_usage(int argc, char **argv);       // sums of usage records
int verb_ctl(int argc, char **argv);         // a running daemon, for its operator: fathomctl
int verb_health(int argc, char **argv);      // is the daemon ready?
int verb_options(int argc, char **argv);     // the option table as a document

#endif
