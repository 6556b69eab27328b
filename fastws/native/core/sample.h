/* The time from a publish to the last client, of some publishes. Layer 3.
 *
 * A sample waits for the members of one topic: for each that passes the frame it counts one down. A
 * member passes it when it has handed the frame to the kernel, or left it out. The cost is a pointer
 * test for each flush of a member, whatever it sends.
 */
#ifndef FWS_SAMPLE_H
#define FWS_SAMPLE_H

#include "core/sub.h"

/* Begins to wait for the newest frame of the topic, which was published at that time, ns, unless
 * all places are taken. A sample that has waited for FWS_SAMPLE_NS gives its place to a newer
 * one. */
void fws_topic_sample(fws_topic *topic, uint64_t at);

/* Records the samples that are complete at that time. */
void fws_topics_sampled(fws_topics *topics, uint64_t now);

/* Its member stood at from and has moved. */
static inline void fws_sub_passed(const fws_sub *sub, uint64_t from)
{
    fws_sample *sample = sub->topic->sample;
    if (sample == NULL || from > sample->seq || sub->seq <= sample->seq
        || (int32_t)(sub->id - sample->next_id) >= 0)
        return;
    sub->topic->topics->n_sampled += --sample->waiting == 0;
}

/* Its member leaves, or it ends with its topic: what nobody passed last is not recorded. */
void fws_sub_unsample(const fws_sub *sub);
void fws_topic_unsample(fws_topic *topic);

#endif
