/* refc.c - the official numerics for the pilot's shape, one token at a time, on any CPU.
 *
 *     refc TENSORS < requests > replies
 *
 * TENSORS, written by refc.py, lists one tensor a line: name dtype dimensions size... file offset
 * bytes.
 * Request: most_new n id...       Reply: ids | gaps | drafts
 * most_new 0 scores the ids: the reply is the best next token after each of them.
 * PILOT_TEMP in the environment draws from the softmax at that temperature, with a fixed seed.
 *
 * It shares no code with the daemon, so that the two can judge each other.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    D = 256,
    H = 4,
    HD = 512,
    RD = 64,
    QR = 128,
    G = 2,
    OR = 128,
    E = 8,
    I = 256,
    NH = 8,
    ID = 128,
    TOPK = 128,
    L = 7,
    W = 128,
    MAXT = 8704,
    RING = 256
};
static const int ratio[L + 1] = { 0, 0, 4, 128, 4, 128, 4, 0 };
static int V;

typedef struct {
    char name[96];
    int o, i;
    float *f;
    int64_t *n;
} Tensor;
static Tensor ts[4096];
static int nt;
static float bf(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    u += 0x7fff + ((u >> 16) & 1);
    u &= 0xffff0000u;
    memcpy(&x, &u, 4);
    return x;
}

static float p2(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t e = (u >> 23 & 255) + ((u & 0x7fffff) != 0);
    e <<= 23;
    memcpy(&x, &e, 4);
    return x;
}

static float e4m3(float y)
{
    float a = fabsf(y);
    if (a == 0) return 0;
    if (a > 448) return copysignf(448, y);
    int e;
    frexpf(a, &e);
    e -= 1;
    if (e < -6) e = -6;
    float st = ldexpf(1, e - 3);
    return copysignf(rintf(a / st) * st, y);
}

static float e2m1(float y)
{
    float a = fabsf(y);
    if (a > 6) a = 6;
    float st = a < 2 ? .5f : a < 4 ? 1 : 2;
    return copysignf(rintf(a / st) * st, y);
}

static void fq8(float *d, const float *x, int n, int g)
{
    for (int b = 0; b < n; b += g) {
        float a = 1e-4f;
        for (int i = 0; i < g; i++) a = fmaxf(a, fabsf(x[b + i]));
        float s = p2(a * (1.0f / 448));
        for (int i = 0; i < g; i++) d[b + i] = e4m3(x[b + i] / s) * s;
    }
}

static void fq4(float *x, int n)
{
    for (int b = 0; b < n; b += 32) {
        float a = 6 * 0x1p-126f;
        for (int i = 0; i < 32; i++) a = fmaxf(a, fabsf(x[b + i]));
        float s = p2(a * (1.0f / 6));
        for (int i = 0; i < 32; i++) x[b + i] = e2m1(x[b + i] / s) * s;
    }
}

static float dot(const float *a, const float *b, int n)
{
    float s[16] = { 0 };
    for (int i = 0; i < n; i += 16)
        for (int k = 0; k < 16; k++) s[k] += a[i + k] * b[i + k];
    float r = 0;
    for (int k = 0; k < 16; k++) r += s[k];
    return r;
}

static Tensor *T(const char *p, const char *s)
{
    char n[96];
    snprintf(n, sizeof n, "%s%s", p, s);
    static int hash[65536];
    uint32_t h = 5381;
    for (char *c = n; *c; c++) h = h * 33 + *c;
    h &= 65535;
    for (;; h = (h + 1) & 65535) {
        if (hash[h] && !strcmp(ts[hash[h] - 1].name, n)) return ts + hash[h] - 1;
        if (!hash[h]) break;
    }
    for (int i = 0; i < nt; i++)
        if (!strcmp(ts[i].name, n)) {
            hash[h] = i + 1;
            return ts + i;
        }
    return 0;
}

static float *Wt(const char *p, const char *s)
{
    Tensor *t = T(p, s);
    if (!t) {
        fprintf(stderr, "missing %s%s\n", p, s);
        exit(1);
    }
    return t->f;
}

static void mv(float *y, const float *x, const float *w, int o, int i)
{
    for (int r = 0; r < o; r++) y[r] = dot(w + (size_t)r * i, x, i);
}

static void lin(float *y, const float *x, const char *p, const char *s)
{
    Tensor *t = T(p, s);
    float q[4096];
    fq8(q, x, t->i, 128);
    mv(y, q, t->f, t->o, t->i);
    for (int r = 0; r < t->o; r++) y[r] = bf(y[r]);
}

static float msq(const float *x, int n)
{
    return dot(x, x, n) / n;
}

static void rms(float *y, const float *x, const float *w, int n)
{
    float r = 1 / sqrtf(msq(x, n) + 1e-6f);
    for (int i = 0; i < n; i++) y[i] = bf(x[i] * r * w[i]);
}

static float fr[2][32];
static void rope(float *x, int n, int p, int m, int inv)
{
    float *y = x + n - RD;
    for (int i = 0; i < 32; i++) {
        float a = (float)p * fr[m > 0][i], c = cosf(a), s = inv ? -sinf(a) : sinf(a), e = y[2 * i],
              o = y[2 * i + 1];
        y[2 * i] = bf(e * c - o * s);
        y[2 * i + 1] = bf(o * c + e * s);
    }
}

static void hadamard(float *x)
{
    for (int k = 1; k < 128; k *= 2)
        for (int b = 0; b < 128; b += 2 * k)
            for (int i = b; i < b + k; i++) {
                float u = x[i], v = x[i + k];
                x[i] = u + v;
                x[i + k] = u - v;
            }
    for (int i = 0; i < 128; i++) x[i] = bf(x[i] * 0.08838834764831845f);
}

typedef struct {
    float *kv, *ent, *ik, *a, *g, *ia, *ig;
} Cache;
static Cache C[L + 1];
static float X[4][D], Xp[4][D];
static void hc_pre(float x[4][D], const char *p, const char *s, float *y, float *post,
                   float c[4][4])
{
    char n[96];
    snprintf(n, sizeof n, "%s.hc_%s", p, s);
    float *v = x[0], m[24], *b = Wt(n, "_base"), *a = Wt(n, "_scale"),
          r = 1 / sqrtf(msq(v, 4 * D) + 1e-6f);
    mv(m, v, Wt(n, "_fn"), 24, 4 * D);
    float pre[4];
    for (int k = 0; k < 4; k++) {
        pre[k] = 1 / (1 + expf(-(m[k] * r * a[0] + b[k]))) + 1e-6f;
        post[k] = 2 / (1 + expf(-(m[4 + k] * r * a[1] + b[4 + k])));
    }
    for (int j = 0; j < 4; j++) {
        float mx = -1e30f, z = 0;
        for (int k = 0; k < 4; k++)
            mx = fmaxf(mx, c[j][k] = m[8 + 4 * j + k] * r * a[2] + b[8 + 4 * j + k]);
        for (int k = 0; k < 4; k++) z += c[j][k] = expf(c[j][k] - mx);
        for (int k = 0; k < 4; k++) c[j][k] = c[j][k] / z + 1e-6f;
    }
    for (int it = 0; it < 20; it++) {
        if (it)
            for (int j = 0; j < 4; j++) {
                float z = 1e-6f;
                for (int k = 0; k < 4; k++) z += c[j][k];
                for (int k = 0; k < 4; k++) c[j][k] /= z;
            }
        for (int k = 0; k < 4; k++) {
            float z = 1e-6f;
            for (int j = 0; j < 4; j++) z += c[j][k];
            for (int j = 0; j < 4; j++) c[j][k] /= z;
        }
    }
    for (int i = 0; i < D; i++) {
        float z = 0;
        for (int k = 0; k < 4; k++) z += pre[k] * x[k][i];
        y[i] = bf(z);
    }
}

static void hc_post(float x[4][D], const float *y, const float *post, float c[4][4])
{
    for (int i = 0; i < D; i++) {
        float o[4];
        for (int k = 0; k < 4; k++) {
            o[k] = post[k] * y[i];
            float z = 0;
            for (int j = 0; j < 4; j++) z += c[j][k] * x[j][i];
            o[k] += z;
        }
        for (int k = 0; k < 4; k++) x[k][i] = bf(o[k]);
    }
}

static void compress(const float *x, const char *p, int m, int k, int pos, float *ra, float *rg,
                     float *ent, int index)
{
    int w = k * (m == 4 ? 2 : 1), s = pos % RING;
    float *ape = Wt(p, ".ape");
    mv(ra + (size_t)s * w, x, Wt(p, ".wkv.weight"), w, D);
    mv(rg + (size_t)s * w, x, Wt(p, ".wgate.weight"), w, D);
    for (int i = 0; i < w; i++) rg[(size_t)s * w + i] += ape[(pos % m) * w + i];
    if ((pos + 1) % m) return;
    int j = pos / m, n = m == 4 ? 8 : m, t0 = pos + 1 - n;
    float *e = ent + (size_t)j * k, v[512];
    for (int c = 0; c < k; c++) {
        float mx = -1e30f, z = 0, a = 0;
        for (int t = 0; t < n; t++) {
            int q = t0 + t;
            if (q < 0) continue;
            int ch = m == 4 && t >= 4 ? k + c : c;
            mx = fmaxf(mx, rg[(size_t)(q % RING) * w + ch]);
        }
        for (int t = 0; t < n; t++) {
            int q = t0 + t;
            if (q < 0) continue;
            int ch = m == 4 && t >= 4 ? k + c : c;
            float ex = expf(rg[(size_t)(q % RING) * w + ch] - mx);
            z += ex;
            a += ex * ra[(size_t)(q % RING) * w + ch];
        }
        v[c] = bf(a / z);
    }
    rms(e, v, Wt(p, ".norm.weight"), k);
    rope(e, k, j * m, m, 0);
    if (index) {
        hadamard(e);
        fq4(e, 128);
    } else {
        fq8(e, e, k - RD, 64);
    }
}

static int cmpf(const void *a, const void *b)
{
    float x = *(float *)a, y = *(float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void attention(const float *x, float *y, const char *pp, int l, int pos)
{
    char p[64];
    snprintf(p, sizeof p, "%s.attn", pp);
    int m = ratio[l];
    Cache *c = C + l;
    float qr[QR], q[H * HD], t[HD], *kv = c->kv + (size_t)pos * HD;
    lin(t, x, p, ".wq_a.weight");
    rms(qr, t, Wt(p, ".q_norm.weight"), QR);
    lin(q, qr, p, ".wq_b.weight");
    for (int h = 0; h < H; h++) {
        float *z = q + h * HD, s = 0;
        for (int i = 0; i < HD; i++) s += bf(z[i] * z[i]);
        float r = bf(1 / sqrtf(bf(bf(s / HD) + 1e-6f)));
        for (int i = 0; i < HD; i++) z[i] = bf(z[i] * r);
        rope(z, HD, pos, m, 0);
    }
    lin(t, x, p, ".wkv.weight");
    rms(kv, t, Wt(p, ".kv_norm.weight"), HD);
    rope(kv, HD, pos, m, 0);
    fq8(kv, kv, HD - RD, 64);
    static const float *key[MAXT];
    int n = 0;
    for (int s = pos < W - 1 ? 0 : pos - W + 1; s <= pos; s++) key[n++] = c->kv + (size_t)s * HD;
    if (m) {
        char cp[128];
        snprintf(cp, sizeof cp, "%s.compressor", p);
        compress(x, cp, m, HD, pos, c->a, c->g, c->ent, 0);
        int N = (pos + 1) / m;
        static float sc[MAXT], so[MAXT];
        float cut = -INFINITY;
        if (m == 4) {
            char ip[96];
            snprintf(ip, sizeof ip, "%s.indexer", p);
            snprintf(cp, sizeof cp, "%s.compressor", ip);
            compress(x, cp, 4, ID, pos, c->ia, c->ig, c->ik, 1);
            if (N > TOPK) {
                float iq[NH * ID], w[NH];
                lin(iq, qr, ip, ".wq_b.weight");
                mv(w, x, Wt(ip, ".weights_proj.weight"), NH, D);
                for (int h = 0; h < NH; h++) {
                    rope(iq + h * ID, ID, pos, m, 0);
                    hadamard(iq + h * ID);
                    fq4(iq + h * ID, ID);
                    w[h] = bf(bf(w[h]) * (0.08838834764831845f * 0.35355339059327373f));
                }
                for (int j = 0; j < N; j++) {
                    float s = 0;
                    for (int h = 0; h < NH; h++) {
                        float d = bf(dot(iq + h * ID, c->ik + (size_t)j * ID, ID));
                        s += bf((d > 0 ? d : 0) * w[h]);
                    }
                    so[j] = sc[j] = bf(s);
                }
                qsort(so, N, 4, cmpf);
                cut = so[TOPK - 1];
            }
        }
        int sel = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int j = 0; j < N; j++) {
                int in = cut == -INFINITY ? pass == 0
                         : pass == 0      ? sc[j] > cut
                                          : sc[j] == cut && sel < TOPK;
                if (in) {
                    key[n++] = c->ent + (size_t)j * HD;
                    sel++;
                }
            }
    }
    static float P[MAXT];
    float *sink = Wt(p, ".attn_sink"), o[H * HD];
    for (int h = 0; h < H; h++) {
        float mx = -INFINITY, z = 0, *oh = o + h * HD;
        for (int i = 0; i < n; i++)
            mx = fmaxf(mx, P[i] = dot(q + h * HD, key[i], HD) * 0.04419417382415922f);
        for (int i = 0; i < n; i++) {
            z += P[i] = expf(P[i] - mx);
            P[i] = bf(P[i]);
        }
        z += expf(sink[h] - mx);
        memset(oh, 0, HD * 4);
        for (int i = 0; i < n; i++)
            for (int k = 0; k < HD; k++) oh[k] += P[i] * key[i][k];
        for (int k = 0; k < HD; k++) oh[k] = bf(oh[k] / z);
        rope(oh, HD, pos, m, 1);
    }
    float zz[G * OR], *wa = Wt(p, ".wo_a.weight");
    int gi = H * HD / G;
    for (int g = 0; g < G; g++)
        for (int r = 0; r < OR; r++)
            zz[g * OR + r] = bf(dot(wa + (size_t)(g * OR + r) * gi, o + g * gi, gi));
    lin(y, zz, p, ".wo_b.weight");
}

static void expert(const float *x, float *y, const char *p, float w)
{
    float g[I], u[I], h[I];
    lin(g, x, p, ".w1.weight");
    lin(u, x, p, ".w3.weight");
    for (int i = 0; i < I; i++) {
        float a = fminf(g[i], 10), b = fmaxf(-10, fminf(u[i], 10));
        h[i] = bf(w * (a / (1 + expf(-a)) * b));
    }
    lin(y, h, p, ".w2.weight");
}

static void moe(const float *x, float *y, const char *pp, int id)
{
    char p[80];
    snprintf(p, sizeof p, "%s.ffn", pp);
    float s[E], t[D], sum[D] = { 0 };
    mv(s, x, Wt(p, ".gate.weight"), E, D);
    for (int e = 0; e < E; e++) s[e] = sqrtf(s[e] > 20 ? s[e] : log1pf(expf(s[e])));
    int a, b;
    Tensor *h = T(p, ".gate.tid2eid");
    if (h) {
        a = h->n[id * 2];
        b = h->n[id * 2 + 1];
    } else {
        float *bias = Wt(p, ".gate.bias");
        a = 0;
        for (int e = 1; e < E; e++)
            if (s[e] + bias[e] > s[a] + bias[a]) a = e;
        b = a ? 0 : 1;
        for (int e = 0; e < E; e++)
            if (e != a && s[e] + bias[e] > s[b] + bias[b]) b = e;
    }
    float z = s[a] + s[b];
    int es[2] = { a, b };
    for (int k = 0; k < 2; k++) {
        char n[112];
        snprintf(n, sizeof n, "%s.experts.%d", p, es[k]);
        expert(x, t, n, s[es[k]] / z * 1.5f);
        for (int i = 0; i < D; i++) sum[i] += t[i];
    }
    char n[112];
    snprintf(n, sizeof n, "%s.shared_experts", p);
    expert(x, t, n, 1);
    for (int i = 0; i < D; i++) y[i] = bf(sum[i] + t[i]);
}

static void block(float x[4][D], int l, int id, int pos)
{
    char p[32];
    if (l < L) snprintf(p, sizeof p, "layers.%d", l);
    else strcpy(p, "mtp.0");
    float y[D], n[D], post[4], c[4][4];
    hc_pre(x, p, "attn", y, post, c);
    rms(n, y, Wt(p, ".attn_norm.weight"), D);
    attention(n, y, p, l, pos);
    hc_post(x, y, post, c);
    hc_pre(x, p, "ffn", y, post, c);
    rms(n, y, Wt(p, ".ffn_norm.weight"), D);
    moe(n, y, p, id);
    hc_post(x, y, post, c);
}

static float temp;  // PILOT_TEMP; 0 = greedy
static int head(float x[4][D], const char *p, float *gap)
{
    float m[4], y[D], n[D], r = 1 / sqrtf(msq(x[0], 4 * D) + 1e-6f), *b = Wt(p, "hc_head_base"),
                            *a = Wt(p, "hc_head_scale"), *w = Wt("head", ".weight");
    mv(m, x[0], Wt(p, "hc_head_fn"), 4, 4 * D);
    for (int k = 0; k < 4; k++) m[k] = 1 / (1 + expf(-(m[k] * r * a[0] + b[k]))) + 1e-6f;
    for (int i = 0; i < D; i++) {
        float z = 0;
        for (int k = 0; k < 4; k++) z += m[k] * x[k][i];
        y[i] = bf(z);
    }
    rms(n, y, Wt(p, "norm.weight"), D);
    float u = -INFINITY, v = -INFINITY;
    int best = 0;
    for (int t = 0; t < V; t++) {
        float z = dot(w + (size_t)t * D, n, D);
        if (temp > 0 && !*p) z -= temp * log(-log((rand() + .5) / (RAND_MAX + 1.)));
        if (z > u) {
            v = u;
            u = z;
            best = t;
        } else if (z > v) v = z;
    }
    *gap = u - v;
    return best;
}

static int step(int id, int pos, int want, float *gap)
{
    float *e = Wt("embed", ".weight") + (size_t)id * D;
    memcpy(Xp, X, sizeof X);
    for (int k = 0; k < 4; k++) memcpy(X[k], e, D * 4);
    for (int l = 0; l < L; l++) block(X, l, id, pos);
    return want ? head(X, "", gap) : -1;
}

/* The streams Xp of position pos and the token at pos + 1 -> the draft for pos + 2. */
static int mtp(int id, int pos, int want)
{
    float e[D], h[D], a[D], b[D], y[4][D], g;
    rms(e, Wt("embed", ".weight") + (size_t)id * D, Wt("mtp.0", ".enorm.weight"), D);
    lin(a, e, "mtp.0", ".e_proj.weight");
    for (int k = 0; k < 4; k++) {
        rms(h, Xp[k], Wt("mtp.0", ".hnorm.weight"), D);
        lin(b, h, "mtp.0", ".h_proj.weight");
        for (int i = 0; i < D; i++) y[k][i] = bf(a[i] + b[i]);
    }
    block(y, L, id, pos);
    return want ? head(y, "mtp.0.", &g) : -1;
}

static void load(const char *index)
{
    FILE *f = fopen(index, "r");
    char name[96], dt[16], file[256];
    int nd, d[2];
    long off, bytes;
    static struct {
        char n[96];
        uint8_t *p;
        int i;
    } sc[4096];
    int ns = 0;
    uint8_t *raw[4096];
    char dts[4096][16];
    static struct {
        char f[256];
        uint8_t *p;
    } mp[8];
    int nm = 0;
    while (fscanf(f, "%95s %15s %d", name, dt, &nd) == 3) {
        d[0] = 1;
        d[1] = 1;
        for (int i = 0; i < nd; i++) fscanf(f, "%d", d + (nd == 1 ? 1 : i));
        fscanf(f, "%255s %ld %ld", file, &off, &bytes);
        int k = 0;
        while (k < nm && strcmp(mp[k].f, file)) k++;
        if (k == nm) {
            int fd = open(file, O_RDONLY);
            strcpy(mp[nm].f, file);
            mp[nm++].p = mmap(0, lseek(fd, 0, SEEK_END), PROT_READ, MAP_PRIVATE, fd, 0);
        }
        if (!strcmp(dt, "F8_E8M0")) {
            strcpy(sc[ns].n, name);
            sc[ns].i = d[1];
            sc[ns++].p = mp[k].p + off;
            continue;
        }
        Tensor *t = ts + nt;
        strcpy(t->name, name);
        t->o = d[0];
        t->i = d[1];
        raw[nt] = mp[k].p + off;
        strcpy(dts[nt++], dt);
    }
    for (int q = 0; q < nt; q++) {
        Tensor *t = ts + q;
        uint8_t *r = raw[q];
        char *dt = dts[q];
        if (!strcmp(dt, "I64")) {
            t->n = (int64_t *)r;
            continue;
        }
        if (!strcmp(dt, "I8")) t->i *= 2;
        size_t n = (size_t)t->o * t->i;
        t->f = aligned_alloc(64, (n * 4 + 63) / 64 * 64);
        uint8_t *s = 0;
        int si = 0;
        if (!strcmp(dt, "I8") || !strcmp(dt, "F8_E4M3")) {
            char m[96];
            strcpy(m, t->name);
            strcpy(strrchr(m, '.'), ".scale");
            for (int k = 0; k < ns; k++)
                if (!strcmp(sc[k].n, m)) {
                    s = sc[k].p;
                    si = sc[k].i;
                }
        }
        static const float e2[16] = {
            0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6
        };
        for (int o = 0; o < t->o; o++)
            for (int i = 0; i < t->i; i++) {
                size_t k = (size_t)o * t->i + i;
                float v;
                if (!strcmp(dt, "F32")) memcpy(&v, r + 4 * k, 4);
                else if (!strcmp(dt, "BF16")) {
                    uint32_t u = (uint32_t)(r[2 * k] | r[2 * k + 1] << 8) << 16;
                    memcpy(&v, &u, 4);
                } else if (!strcmp(dt, "I8")) {
                    int c = r[k / 2] >> (k & 1) * 4 & 15;
                    v = e2[c] * ldexpf(1, s[o * si + i / 32] - 127);
                } else {
                    int c = r[k], ex = c >> 3 & 15, mn = c & 7;
                    v = ex ? ldexpf(8 + mn, ex - 10) : ldexpf(mn, -9);
                    if (c & 128) v = -v;
                    v *= ldexpf(1, s[o / 128 * si + i / 128] - 127);
                }
                t->f[k] = v;
            }
    }
    V = T("embed", ".weight")->o;
}

int main(int n, char **a)
{
    (void)n;
    load(a[1]);
    temp = getenv("PILOT_TEMP") ? atof(getenv("PILOT_TEMP")) : 0;
    for (int i = 0; i < 32; i++) {
        fr[0][i] = 1 / powf(10000, i / 32.f);
        float f = 1 / powf(160000, i / 32.f), s = 1 - fminf(1, fmaxf(0, (i - 15) / 10.f));
        fr[1][i] = f / 16 * (1 - s) + f * s;
    }
    for (int l = 0; l <= L; l++) {
        int m = ratio[l], w = m == 4 ? 1024 : 512;
        C[l].kv = malloc(4L * MAXT * HD);
        if (m) {
            C[l].ent = malloc(4L * (MAXT / m) * HD);
            C[l].a = malloc(4L * RING * w);
            C[l].g = malloc(4L * RING * w);
        }
        if (m == 4) {
            C[l].ik = malloc(4L * (MAXT / 4) * ID);
            C[l].ia = malloc(4L * RING * 256);
            C[l].ig = malloc(4L * RING * 256);
        }
    }
    int mx, np;
    static int id[MAXT], dr[MAXT];
    static float gap[MAXT];
    while (scanf("%d %d", &mx, &np) == 2) {
        for (int i = 0; i < np; i++) scanf("%d", id + i);
        int len = np, from = mx ? np - 1 : 0, next = -1;
        float g = 0;
        for (int p = 0; p < len; p++) {
            int want = p >= from;
            next = step(id[p], p, want, &g);
            if (p && mx) dr[p + 1] = mtp(id[p], p - 1, p >= np);
            if (!mx) printf("%d ", next);
            else if (p >= np - 1) {
                gap[p + 1] = g;
                if (len < MAXT - 1 && len - np < mx) {
                    id[len++] = next;
                    if (next == 1) break;
                } else break;
            }
        }
        if (mx) {
            for (int i = np; i < len; i++) printf("%d ", id[i]);
            printf("| ");
            for (int i = np; i < len; i++) printf("%.6g ", gap[i]);
            printf("| ");
            for (int i = np + 1; i < len; i++) printf("%d ", dr[i]);
        }
        printf("\n");
        fflush(stdout);
    }
}
