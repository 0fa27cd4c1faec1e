/* Spreading activation: episode -> concept -> episode, over all shards, one step after the other.
 *
 * All sums are of whole numbers, so nothing depends on their order: not on shards, threads or the way that is taken.
 * Without a copy of the bindings by episode, each episode that passes on is looked up in every shard. The copy is made
 * when the time spent without one since the last change would have paid for it. With it, where concepts pass on to many
 * episodes, each episode adds up what its few concepts pass; where they are few, they pass along their own bindings. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bindings_index_spread.h"

enum { AHEAD = 16, RANGE = 1 << 9, WORD_GROUPS = 8 }; /* groups that a thread takes at a time; of a word of marks */
enum { LOOKUP_NS = 5, PASS_NS = 3, TIE_NS = 10, TIES_AN_EPISODE = 2 };

typedef struct {
    ns_index *index;
    ns_activations *a;
    const ns_spread_request *request;
    double decay;
    int32_t n_workers, is_tied;
    int64_t n_bindings, n_sources; /* sources: episodes that pass on */
    int64_t n_scattered;           /* bindings of the concepts that pass on */
    uint64_t passed;               /* by all nodes in all steps; NS_MOST_UNITS: that or more */
    _Atomic int64_t next;          /* range that no worker has taken */
    _Atomic uint64_t turned;       /* what episodes pass in the next step, and how many of them */
    _Atomic int64_t n_turned;
} spread_call;

/* Never above NS_MOST_UNITS; so the order of such sums does not show either. */
static inline uint64_t limited_sum(uint64_t a, uint64_t b) {
    return a + b < NS_MOST_UNITS ? a + b : NS_MOST_UNITS;
}

/* What goes through a binding, rounded to whole units: to nearest, ties to even. */
static inline uint64_t through(float strength, double passed) { return (uint64_t)llrint((double)strength * passed); }

/* ---- laws ---- */

/* The same bits everywhere, which libm does not promise: f = 2^e m, m in [sqrt(1/2), sqrt(2)], and ln m = 2 artanh(r),
 * r = (m - 1) / (m + 1), |r| < 0.172, by 10 terms of its series: the next is below 2^-56 of the sum. */
static double natural_logarithm(double f) {
    int e;
    double m = frexp(f, &e), sum = 0.0;
    if (m < 0.70710678118654752) m *= 2.0, e--;
    const double r = (m - 1.0) / (m + 1.0), square = r * r;
    for (int k = 19; k >= 1; k -= 2) sum = sum * square + 2.0 / k;
    return e * 0.69314718055994531 + r * sum;
}

static double divided(double value, int32_t law, double fan_out) {
    switch (law) {
    case NS_FAN_SQRT: return value / sqrt(fan_out);
    case NS_FAN_LINEAR: return value / fan_out;
    case NS_FAN_LOG: return value / (1.0 + natural_logarithm(fan_out));
    default: return value;
    }
}

/* ---- from episodes to concepts ---- */

/* Without a copy by episode: looks every source up in a shard. */
static void look_up_in_shard(void *context, int64_t number) {
    const spread_call *c = context;
    const ns_shard *s = &c->index->shards[number];
    const ns_source *sources = c->a->sources;
    const uint32_t base = c->a->bases[number];
    for (int64_t i = 0; i < c->n_sources; i++) {
        if (i + AHEAD < c->n_sources) __builtin_prefetch(ns_episode_bucket(s, ns_mix(sources[i + AHEAD].id)));
        ns_episode_entry *e = ns_find_episode(s, sources[i].id, ns_mix(sources[i].id));
        if (!e) continue;
        const ns_place *places = ns_places(s, e);
        for (uint32_t p = 0, n = ns_n_places(e); p < n; p++) {
            const uint32_t slot = places[p].concept;
            c->a->concepts[base + slot].received +=
                through(s->strengths[s->lines[slot].offset + places[p].index], sources[i].passed);
            c->a->concept_states[(base + slot) / NS_GROUP] = NS_PASSES | NS_TOUCHED;
        }
    }
}

/* The next group from `group` on with one of these marks, `end` if there is none; they may be made as it goes. */
static int64_t next_group(const uint8_t *marks, uint8_t wanted, int64_t group, int64_t end) {
    while (group < end) {
        uint64_t word;
        if (group % WORD_GROUPS == 0 && (memcpy(&word, marks + group, sizeof word), !word)) group += WORD_GROUPS;
        else if (marks[group] & wanted) return group;
        else group++;
    }
    return end;
}

static int64_t n_groups(const spread_call *c) { return (c->a->n_episodes + NS_GROUP - 1) / NS_GROUP; }

static int32_t list_sources(spread_call *c) {
    if (ns_reserve_sources(c->a, c->n_sources) != NS_OK) return NS_E_MEMORY;
    ns_source *source = c->a->sources;
    const int64_t end = n_groups(c);
    for (int64_t group = 0; (group = next_group(c->a->states, NS_PASSES, group, end)) < end; group++)
        for (int64_t e = group * NS_GROUP; e < (group + 1) * NS_GROUP; e++)
            if (c->a->sums[e]) *source++ = (ns_source){c->a->ids[e], (double)c->a->sums[e]};
    return NS_OK;
}

/* With a copy. The first worker adds to the sums of concepts, the others each to sums of their own. */
static void pass_range(const spread_call *c, int64_t range, uint64_t *own_sums) {
    const ns_activations *a = c->a;
    const int64_t last = (range + 1) * RANGE, end = last < n_groups(c) ? last : n_groups(c);
    for (int64_t group = range * RANGE; (group = next_group(a->states, NS_PASSES, group, end)) < end; group++) {
        for (int64_t e = group * NS_GROUP; e < (group + 1) * NS_GROUP && e < a->n_tied; e++) {
            const double passed = (double)a->sums[e];
            if (!a->sums[e]) continue;
            for (uint32_t t = a->starts[e]; t < a->starts[e + 1]; t++) {
                const uint32_t concept = a->ties[t].concept;
                if (own_sums) {
                    own_sums[concept] += through(a->ties[t].strength, passed);
                    continue;
                }
                a->concepts[concept].received += through(a->ties[t].strength, passed);
                a->concept_states[concept / NS_GROUP] = NS_PASSES | NS_TOUCHED;
            }
        }
    }
}

static void pass_as_worker(void *context, int64_t worker) {
    spread_call *c = context;
    uint64_t *own_sums = worker ? c->a->worker_sums + (worker - 1) * (int64_t)c->a->worker_capacity : NULL;
    for (int64_t range; (range = c->next++) * RANGE < n_groups(c);) pass_range(c, range, own_sums);
}

static int32_t pass_by_ties(spread_call *c, int32_t threads) {
    ns_activations *a = c->a;
    const double work_ns = (double)PASS_NS * TIES_AN_EPISODE * (double)c->n_sources;
    const int32_t n_workers = work_ns / c->n_workers < 1e5 ? 1 : c->n_workers; /* own sums must be added up */
    int32_t status = ns_reserve_workers(a, n_workers);
    c->next = 0;
    if (status == NS_OK) status = ns_parallel(pass_as_worker, c, n_workers, work_ns / n_workers, threads);
    for (int32_t w = 1; status == NS_OK && w < n_workers; w++) {
        uint64_t *own_sums = a->worker_sums + (w - 1) * (int64_t)a->worker_capacity;
        for (uint32_t concept = 0; concept < a->bases[c->index->n_shards]; concept++) {
            if (!own_sums[concept]) continue;
            a->concepts[concept].received += own_sums[concept];
            a->concept_states[concept / NS_GROUP] = NS_PASSES | NS_TOUCHED;
            own_sums[concept] = 0;
        }
    }
    return status;
}

static int32_t reach_concepts(spread_call *c, int32_t threads) {
    if (!c->is_tied) {
        c->a->untied_ns += (double)LOOKUP_NS * (double)c->n_sources * c->index->n_shards;
        if (c->a->untied_ns > (double)TIE_NS * (double)c->n_bindings) {
            if (ns_tie_all(c->a, c->index) != NS_OK) return NS_E_MEMORY;
            c->is_tied = 1;
        }
    }
    if (c->is_tied) return pass_by_ties(c, threads);
    const int32_t status = list_sources(c);
    if (status != NS_OK) return status;
    return ns_parallel(look_up_in_shard, c, c->index->n_shards, LOOKUP_NS * (double)c->n_sources, threads);
}

/* ---- in concepts ---- */

/* Ends the step of the concepts of a shard: what they have received counts, and is what they pass on. */
static void turn_concepts(spread_call *c, int32_t number) {
    const ns_activations *a = c->a;
    const ns_shard *s = &c->index->shards[number];
    const int64_t end = a->bases[number + 1] / NS_GROUP;
    int64_t group = a->bases[number] / NS_GROUP;
    for (; (group = next_group(a->concept_states, NS_PASSES, group, end)) < end; group++) {
        for (uint32_t concept = (uint32_t)group * NS_GROUP, i = 0; i < NS_GROUP; i++, concept++) {
            ns_concept_sum *sum = &a->concepts[concept];
            const uint64_t received = sum->received;
            sum->total += received;
            sum->received = 0;
            if (!received || received < c->request->cutoff) continue;
            const uint32_t fan_out = s->lines[concept - a->bases[number]].fan_out;
            a->passed[concept] = (double)llrint(divided((double)received * c->decay, c->request->law, fan_out));
            if (a->passed[concept] == 0.0) continue;
            c->passed = limited_sum(c->passed, (uint64_t)a->passed[concept]);
            c->n_scattered += fan_out;
        }
    }
}

/* ---- from concepts to episodes ---- */

static void scatter(ns_activations *a, const ns_shard *s, const ns_concept_line *line, double passed) {
    const float *restrict strengths = s->strengths + line->offset;
    const uint32_t *restrict numbers = s->numbers + line->offset;
    uint64_t *restrict sums = a->sums;
    uint8_t *restrict states = a->states;
    const uint32_t n = line->fan_out;
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch(&sums[numbers[i + AHEAD < n ? i + AHEAD : n - 1]], 1);
        sums[numbers[i]] += through(strengths[i], passed);
        states[numbers[i] / NS_GROUP] = NS_PASSES | NS_TOUCHED;
    }
}

/* Every concept of a shard passes along its own bindings. */
static int32_t scatter_shard(spread_call *c, int32_t number) {
    ns_activations *a = c->a;
    ns_shard *s = &c->index->shards[number];
    const int64_t end = a->bases[number + 1] / NS_GROUP;
    int64_t group = a->bases[number] / NS_GROUP;
    for (; (group = next_group(a->concept_states, NS_PASSES, group, end)) < end; group++) {
        for (uint32_t concept = (uint32_t)group * NS_GROUP, i = 0; i < NS_GROUP; i++, concept++) {
            if (a->passed[concept] == 0.0) continue;
            ns_concept_line *line = &s->lines[concept - a->bases[number]];
            if (line->n_numbered < line->fan_out && ns_number_places(a, s, line) != NS_OK) return NS_E_MEMORY;
            scatter(a, s, line, a->passed[concept]);
        }
    }
    return NS_OK;
}

/* What an episode has received counts, and is what it passes on unless it is below the cutoff. */
static inline uint64_t turn_episode(const spread_call *c, int64_t e, uint64_t received) {
    const uint64_t passed = received < c->request->cutoff ? 0 : received;
    c->a->totals[e] += received;
    c->a->sums[e] = passed;
    return passed;
}

static void add_turned(spread_call *c, uint64_t passed, int64_t n) {
    uint64_t before = c->turned;
    while (!atomic_compare_exchange_weak(&c->turned, &before, limited_sum(before, passed))) continue;
    c->n_turned += n;
}

static void turn_range(void *context, int64_t range) {
    spread_call *c = context;
    const int64_t last = (range + 1) * RANGE, end = last < n_groups(c) ? last : n_groups(c);
    uint64_t passed = 0;
    int64_t n = 0;
    for (int64_t group = range * RANGE; (group = next_group(c->a->states, NS_PASSES, group, end)) < end; group++) {
        for (int64_t e = group * NS_GROUP; e < (group + 1) * NS_GROUP; e++) {
            const uint64_t passing = turn_episode(c, e, c->a->sums[e]);
            passed = limited_sum(passed, passing);
            n += passing != 0;
        }
    }
    add_turned(c, passed, n);
}

/* Every episode adds up what its concepts pass. */
static void gather_range(void *context, int64_t range) {
    spread_call *c = context;
    const ns_activations *a = c->a;
    const int64_t last = (range + 1) * RANGE, end = last < n_groups(c) ? last : n_groups(c);
    uint64_t passed = 0;
    int64_t n = 0;
    for (int64_t group = range * RANGE; group < end; group++) {
        uint64_t any = 0;
        for (int64_t e = group * NS_GROUP; e < (group + 1) * NS_GROUP && e < a->n_tied; e++) {
            uint64_t received = 0;
            for (uint32_t t = a->starts[e]; t < a->starts[e + 1]; t++)
                received += through(a->ties[t].strength, a->passed[a->ties[t].concept]);
            const uint64_t passing = turn_episode(c, e, received);
            any |= received;
            passed = limited_sum(passed, passing);
            n += passing != 0;
        }
        if (any) a->states[group] = NS_PASSES | NS_TOUCHED;
    }
    add_turned(c, passed, n);
}

/* What episodes have passed on is gone, and the marks of it. */
static void clear_episodes(const spread_call *c) {
    const int64_t end = n_groups(c);
    for (int64_t group = 0; (group = next_group(c->a->states, NS_PASSES, group, end)) < end; group++) {
        memset(&c->a->sums[group * NS_GROUP], 0, NS_GROUP * sizeof *c->a->sums);
        c->a->states[group] = NS_TOUCHED;
    }
}

static void clear_concepts(const spread_call *c) {
    const int64_t end = c->a->bases[c->index->n_shards] / NS_GROUP;
    for (int64_t group = 0; (group = next_group(c->a->concept_states, NS_PASSES, group, end)) < end; group++) {
        memset(&c->a->passed[group * NS_GROUP], 0, NS_GROUP * sizeof *c->a->passed);
        c->a->concept_states[group] = NS_TOUCHED;
    }
}

static int32_t reach_episodes(spread_call *c, int32_t threads) {
    int32_t status = NS_OK;
    clear_episodes(c);
    c->turned = 0;
    c->n_turned = 0;
    const double range_ns = (double)PASS_NS * RANGE * NS_GROUP;
    if (c->is_tied && PASS_NS * c->n_scattered > c->n_bindings) {
        status = ns_parallel(gather_range, c, (n_groups(c) + RANGE - 1) / RANGE, range_ns, threads);
    } else {
        for (int32_t number = 0; status == NS_OK && number < c->index->n_shards; number++)
            status = scatter_shard(c, number);
        c->a->untied_ns += c->is_tied ? 0.0 : (double)PASS_NS * (double)c->n_scattered;
        if (status == NS_OK)
            status = ns_parallel(turn_range, c, (n_groups(c) + RANGE - 1) / RANGE, range_ns / 4, threads);
    }
    clear_concepts(c);
    c->n_sources = c->n_turned;
    return status;
}

/* ---- a call ---- */

static int32_t take_concept_cues(spread_call *c) {
    const ns_spread_request *r = c->request;
    for (int64_t i = 0; i < r->n_concepts; i++) {
        c->passed = limited_sum(c->passed, (uint64_t)r->concept_units[i]);
        const uint64_t hash = ns_mix(r->concepts[i]);
        const int32_t number = ns_shard_number(c->index, hash);
        const uint32_t slot = ns_find_concept(&c->index->shards[number], r->concepts[i], hash);
        if (slot == NS_NONE || !ns_n_here(&c->index->shards[number].lines[slot]) || !r->concept_units[i]) continue;
        ns_concept_sum *sum = &c->a->concepts[c->a->bases[number] + slot];
        sum->received += (uint64_t)r->concept_units[i];
        sum->total -= (uint64_t)r->concept_units[i];
        c->a->concept_states[(c->a->bases[number] + slot) / NS_GROUP] = NS_PASSES | NS_TOUCHED;
    }
    return c->passed < NS_MOST_UNITS ? NS_OK : NS_E_OVERFLOW;
}

/* A cue that is nowhere here gets a number too: nothing comes of it. */
static int32_t take_episode_cues(spread_call *c) {
    const ns_spread_request *r = c->request;
    for (int64_t i = 0; i < r->n_episodes; i++) {
        if (i + AHEAD < r->n_episodes) ns_prefetch_number(c->a, r->episodes[i + AHEAD]);
        const uint64_t units = (uint64_t)r->episode_units[i];
        if (!units || units < r->cutoff) continue;
        const uint32_t number = ns_number_episode(c->a, r->episodes[i]);
        if (number == NS_NONE) return NS_E_MEMORY;
        c->a->sums[number] = units;
        c->a->states[number / NS_GROUP] = NS_PASSES | NS_TOUCHED;
        c->turned = limited_sum(c->turned, units);
        c->n_sources++;
    }
    return NS_OK;
}

static int32_t take_step(spread_call *c, int32_t threads) {
    int32_t status = reach_concepts(c, threads);
    if (status != NS_OK) return status;
    c->n_scattered = 0;
    for (int32_t number = 0; number < c->index->n_shards; number++) turn_concepts(c, number);
    return c->passed < NS_MOST_UNITS ? reach_episodes(c, threads) : NS_E_OVERFLOW;
}

static int32_t spread_locked(spread_call *c, int32_t threads) {
    int32_t status = ns_reserve_concepts(c->a, c->index);
    if (status != NS_OK) return status;
    for (int32_t number = 0; number < c->index->n_shards; number++) c->n_bindings += c->index->shards[number].n_bindings;
    ns_renumber(c->a, c->index);
    c->is_tied = ns_is_tied(c->a, c->index);
    status = take_concept_cues(c);
    if (status == NS_OK) status = take_episode_cues(c);
    for (int32_t step = 0; status == NS_OK && step < c->request->steps; step++) {
        if (step && !c->n_sources) break;
        c->passed = limited_sum(c->passed, c->turned); /* by the episodes */
        status = c->passed < NS_MOST_UNITS ? take_step(c, threads) : NS_E_OVERFLOW;
    }
    return status;
}

int32_t ns_index_spread(ns_index *index, int32_t isa, const ns_spread_request *request, ns_spread_answer *answer,
                        int32_t threads) {
    *answer = (ns_spread_answer){0};
    if (request->steps < 1 || request->law < 0 || request->law > NS_FAN_NONE || threads < 1) return NS_E_ARGUMENT;
    spread_call c = {.index = index, .request = request};
    c.n_workers = threads < NS_MOST_WORKERS ? threads : NS_MOST_WORKERS;
    float factor;
    int32_t status = ns_decay_factor(isa, request->half_lives, &factor);
    if (status != NS_OK) return status;
    c.decay = factor;
    pthread_mutex_lock(&index->spread_lock);
    ns_index_lock(index, NULL, 0);
    if (!index->activations) index->activations = ns_activations_create();
    c.a = index->activations;
    status = c.a ? spread_locked(&c, threads) : NS_E_MEMORY;
    if (c.a) status = ns_drain_activations(c.a, index, status, request->k, answer);
    answer->passed = c.passed;
    ns_index_unlock(index, NULL);
    pthread_mutex_unlock(&index->spread_lock);
    return status;
}
