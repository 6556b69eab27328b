#include "core/sample.h"

void fws_topic_unsample(fws_topic *topic)
{
    if (topic->sample == NULL)
        return;
    topic->topics->n_sampled -= topic->sample->waiting == 0;
    topic->sample->topic = NULL;
    topic->sample = NULL;
}

void fws_sub_unsample(const fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    fws_sample *sample = topic->sample;
    if (sample == NULL || sub->seq > sample->seq || sample->waiting == 0
        || (int32_t)(sub->id - sample->next_id) >= 0)
        return;
    if (--sample->waiting == 0) {
        topic->topics->n_sampled++;
        fws_topic_unsample(topic);
    }
}

static fws_sample *place_for(fws_topics *topics, uint64_t at)
{
    for (int i = 0; i < FWS_SAMPLES; i++) {
        fws_sample *sample = &topics->samples[i];
        if (sample->topic != NULL && at - sample->at >= FWS_SAMPLE_NS && sample->waiting > 0)
            fws_topic_unsample(sample->topic);
        if (sample->topic == NULL)
            return sample;
    }
    return NULL;
}

void fws_topic_sample(fws_topic *topic, uint64_t at)
{
    fws_topics *topics = topic->topics;
    fws_sample *sample = topic->sample != NULL || topic->n == 0 ? NULL : place_for(topics, at);
    if (sample == NULL)
        return;
    *sample = (fws_sample){.topic = topic,
                           .seq = topic->log.next_seq - 1,
                           .at = at,
                           .waiting = topic->n,
                           .next_id = topics->next_sub_id};
    topic->sample = sample;
}

void fws_topics_sampled(fws_topics *topics, uint64_t now)
{
    for (int i = 0; topics->n_sampled > 0 && i < FWS_SAMPLES; i++) {
        const fws_sample *sample = &topics->samples[i];
        if (sample->topic == NULL || sample->waiting > 0)
            continue;
        fws_hist_add(&topics->latency, now > sample->at ? now - sample->at : 0);
        fws_topic_unsample(sample->topic);
    }
}
