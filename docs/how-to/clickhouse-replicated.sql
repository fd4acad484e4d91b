-- The history of outlay on replicated tables: one shard, two replicas or more.
--
-- NOT TESTED BY OUTLAY'S OWN TESTS on a real cluster: they check the columns and the
-- syntax. Try an erasure and a move of days on yours before you rely on it.
--
-- Needs ClickHouse 24.3 or later, three Keepers, a cluster named outlay, the macros
-- {replica}, and a user named outlay.
-- Name it as OUTLAY_SERVER_HISTORY=clickhouse://outlay@history.internal:8123/outlay

CREATE DATABASE IF NOT EXISTS outlay ON CLUSTER outlay;

CREATE TABLE outlay.events ON CLUSTER outlay (
    day Int32 CODEC(Delta, ZSTD(1)),
    seq Int64 CODEC(Delta, ZSTD(1)),
    at Int64 CODEC(Delta, ZSTD(1)),
    received_at Int64 CODEC(Delta, ZSTD(1)),
    id String CODEC(ZSTD(1)),
    namespace LowCardinality(String),
    key String CODEC(ZSTD(1)),
    type LowCardinality(String),
    source LowCardinality(String),
    subject Nullable(String),
    external_subject Nullable(String),
    external_id Nullable(String),
    customer String MATERIALIZED coalesce(nullIf(subject, ''), external_subject, ''),
    data String CODEC(ZSTD(3)),
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 4,
    INDEX by_key key TYPE bloom_filter(0.001) GRANULARITY 4
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/outlay/events', '{replica}')
PARTITION BY day
ORDER BY (namespace, type, intDiv(at, 3600000000), customer, at, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- A day that is written again, before it replaces the old one.
CREATE TABLE outlay.rewritten ON CLUSTER outlay (
    day Int32 CODEC(Delta, ZSTD(1)),
    seq Int64 CODEC(Delta, ZSTD(1)),
    at Int64 CODEC(Delta, ZSTD(1)),
    received_at Int64 CODEC(Delta, ZSTD(1)),
    id String CODEC(ZSTD(1)),
    namespace LowCardinality(String),
    key String CODEC(ZSTD(1)),
    type LowCardinality(String),
    source LowCardinality(String),
    subject Nullable(String),
    external_subject Nullable(String),
    external_id Nullable(String),
    customer String MATERIALIZED coalesce(nullIf(subject, ''), external_subject, ''),
    data String CODEC(ZSTD(3)),
    INDEX by_id id TYPE bloom_filter(0.001) GRANULARITY 4,
    INDEX by_key key TYPE bloom_filter(0.001) GRANULARITY 4
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/outlay/rewritten', '{replica}')
PARTITION BY day
ORDER BY (namespace, type, intDiv(at, 3600000000), customer, at, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE outlay.ledger ON CLUSTER outlay (id String)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/outlay/ledger', '{replica}')
ORDER BY id;

CREATE TABLE outlay.outlay_schema ON CLUSTER outlay (version Int32)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/outlay/outlay_schema', '{replica}')
ORDER BY version;

INSERT INTO outlay.outlay_schema VALUES (1);

-- A write counts when two replicas have it, and each read sees it. Blocks are not
-- compared with earlier ones, because outlay compares counts and sums itself, and may
-- write the same block again after it deleted it.
CREATE SETTINGS PROFILE IF NOT EXISTS outlay_history ON CLUSTER outlay SETTINGS
    insert_quorum = 2,
    insert_quorum_parallel = 0,
    select_sequential_consistency = 1,
    insert_deduplicate = 0,
    alter_sync = 2,
    mutations_sync = 2,
    lightweight_deletes_sync = 2
TO outlay;
