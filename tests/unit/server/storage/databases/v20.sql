PRAGMA application_id = 1869968492;
PRAGMA user_version = 20;
BEGIN TRANSACTION;
CREATE TABLE api_keys (
        digest BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        namespace TEXT NOT NULL,
        permissions TEXT NOT NULL,
        created_at INTEGER NOT NULL
    , id TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '', expires_at INTEGER, revoked_at INTEGER, last_used_at INTEGER) WITHOUT ROWID;
CREATE TABLE budgets (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        amount TEXT NOT NULL,
        currency TEXT NOT NULL,
        period TEXT NOT NULL,
        zone TEXT NOT NULL,
        customer TEXT,
        dimensions TEXT NOT NULL,
        thresholds TEXT NOT NULL,
        revision TEXT NOT NULL,
        revised_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
CREATE TABLE closed_periods (
        namespace TEXT NOT NULL,
        start_at INTEGER NOT NULL,
        end_at INTEGER NOT NULL,
        closed_at INTEGER NOT NULL,
        closed_by TEXT NOT NULL,
        PRIMARY KEY (namespace, start_at)
    ) WITHOUT ROWID;
CREATE TABLE corrections (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        kind TEXT NOT NULL,
        event_id TEXT NOT NULL,
        reason TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        cost_id TEXT,
        delta TEXT,
        reverts TEXT
    );
CREATE TABLE costs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        unit_cost TEXT NOT NULL,
        currency TEXT NOT NULL,
        product_id TEXT NOT NULL,
        event_type TEXT,
        aggregation TEXT,
        value_property TEXT,
        group_by TEXT NOT NULL,
        unit TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        deleted_at INTEGER,
        folded_seq INTEGER
    , definition INTEGER NOT NULL DEFAULT 0, billable TEXT);
INSERT INTO "costs" VALUES(1,'cst_1','org_a','AI','1','USD','prod_1','cost.ai','SUM','$.amount','{"provider":"$.provider"}',NULL,1764000000000000,1764000000000000,NULL,50,1,NULL);
CREATE TABLE customers (
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
CREATE TABLE deleted_events (
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        deleted_before INTEGER NOT NULL,
        deleted_seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, type)
    ) WITHOUT ROWID;
CREATE TABLE ended_definitions (definition INTEGER PRIMARY KEY);
CREATE TABLE ended_tokens (
    digest BLOB PRIMARY KEY,
    until INTEGER NOT NULL
);
CREATE TABLE entries (
        number INTEGER PRIMARY KEY,
        correction INTEGER,
        namespace TEXT NOT NULL,
        type TEXT NOT NULL,
        seq INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        event_at INTEGER NOT NULL,
        customer TEXT NOT NULL,
        data TEXT NOT NULL,
        effective_at INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        sign INTEGER NOT NULL,
        cost_id TEXT,
        delta TEXT,
        closed_start INTEGER
    );
CREATE TABLE erasures (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        customer TEXT NOT NULL,
        pseudonym TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        done_seq INTEGER NOT NULL,
        UNIQUE (namespace, customer)
    );
CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        type TEXT NOT NULL,
        source TEXT NOT NULL,
        subject TEXT,
        external_subject TEXT,
        external_id TEXT,
        at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        data TEXT NOT NULL
    );
INSERT INTO "events" VALUES(1,'evt_key-0','org_a','key-0','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(2,'evt_key-1','org_a','key-1','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(3,'evt_key-2','org_a','key-2','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(4,'evt_key-3','org_a','key-3','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(5,'evt_key-4','org_a','key-4','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(6,'evt_key-5','org_a','key-5','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(7,'evt_key-6','org_a','key-6','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(8,'evt_key-7','org_a','key-7','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(9,'evt_key-8','org_a','key-8','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(10,'evt_key-9','org_a','key-9','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(11,'evt_key-10','org_a','key-10','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(12,'evt_key-11','org_a','key-11','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(13,'evt_key-12','org_a','key-12','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(14,'evt_key-13','org_a','key-13','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(15,'evt_key-14','org_a','key-14','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(16,'evt_key-15','org_a','key-15','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(17,'evt_key-16','org_a','key-16','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(18,'evt_key-17','org_a','key-17','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(19,'evt_key-18','org_a','key-18','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(20,'evt_key-19','org_a','key-19','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(21,'evt_key-20','org_a','key-20','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(22,'evt_key-21','org_a','key-21','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(23,'evt_key-22','org_a','key-22','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(24,'evt_key-23','org_a','key-23','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(25,'evt_key-24','org_a','key-24','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(26,'evt_key-25','org_a','key-25','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(27,'evt_key-26','org_a','key-26','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(28,'evt_key-27','org_a','key-27','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(29,'evt_key-28','org_a','key-28','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(30,'evt_key-29','org_a','key-29','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(31,'evt_key-30','org_a','key-30','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(32,'evt_key-31','org_a','key-31','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(33,'evt_key-32','org_a','key-32','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(34,'evt_key-33','org_a','key-33','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(35,'evt_key-34','org_a','key-34','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(36,'evt_key-35','org_a','key-35','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(37,'evt_key-36','org_a','key-36','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(38,'evt_key-37','org_a','key-37','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(39,'evt_key-38','org_a','key-38','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(40,'evt_key-39','org_a','key-39','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(41,'evt_key-40','org_a','key-40','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(42,'evt_key-41','org_a','key-41','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(43,'evt_key-42','org_a','key-42','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(44,'evt_key-43','org_a','key-43','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(45,'evt_key-44','org_a','key-44','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(46,'evt_key-45','org_a','key-45','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(47,'evt_key-46','org_a','key-46','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(48,'evt_key-47','org_a','key-47','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(49,'evt_key-48','org_a','key-48','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(50,'evt_key-49','org_a','key-49','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(51,'evt_key-50','org_a','key-50','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(52,'evt_key-51','org_a','key-51','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(53,'evt_key-52','org_a','key-52','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(54,'evt_key-53','org_a','key-53','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(55,'evt_key-54','org_a','key-54','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(56,'evt_key-55','org_a','key-55','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(57,'evt_key-56','org_a','key-56','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(58,'evt_key-57','org_a','key-57','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(59,'evt_key-58','org_a','key-58','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
INSERT INTO "events" VALUES(60,'evt_key-59','org_a','key-59','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":1}');
CREATE TABLE passed_thresholds (
        namespace TEXT NOT NULL,
        budget TEXT NOT NULL,
        revision TEXT NOT NULL,
        start_at INTEGER NOT NULL,
        percent INTEGER NOT NULL,
        spent TEXT NOT NULL,
        passed_at INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        message TEXT NOT NULL,
        PRIMARY KEY (namespace, budget, revision, start_at, percent)
    ) WITHOUT ROWID;
CREATE TABLE products (
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT NOT NULL,
        metadata TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    );
CREATE TABLE progress (forgotten_seq INTEGER NOT NULL, noted_seq INTEGER NOT NULL DEFAULT 0, folded_seq INTEGER NOT NULL DEFAULT 0, last_definition INTEGER NOT NULL DEFAULT 0, access_version INTEGER NOT NULL DEFAULT 0);
INSERT INTO "progress" VALUES(0,0,0,1,0);
CREATE TABLE rates (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        from_currency TEXT NOT NULL,
        to_currency TEXT NOT NULL,
        rate TEXT NOT NULL,
        valid_from INTEGER NOT NULL,
        source TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        received_by TEXT NOT NULL
    );
CREATE TABLE receipts (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, key)
    ) WITHOUT ROWID;
CREATE TABLE reconciliation_matches (
        reconciliation INTEGER NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (reconciliation, digest)
    ) WITHOUT ROWID;
CREATE TABLE reconciliations (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        namespace TEXT NOT NULL,
        invoice_id TEXT NOT NULL,
        provider TEXT NOT NULL,
        currency TEXT NOT NULL,
        zone TEXT NOT NULL,
        period TEXT NOT NULL,
        first_day TEXT NOT NULL,
        last_day TEXT NOT NULL,
        as_of INTEGER NOT NULL,
        saved_by TEXT NOT NULL,
        saved_at INTEGER,
        bill TEXT NOT NULL,
        tracked TEXT NOT NULL,
        reconciled TEXT NOT NULL
    , charges INTEGER, reconciled_charges INTEGER, withdrawn_at INTEGER, withdrawn_by TEXT, withdrawal_reason TEXT);
CREATE TABLE retention (
        namespace TEXT PRIMARY KEY,
        keep INTEGER NOT NULL
    );
CREATE TABLE revenue_imports (
        number INTEGER PRIMARY KEY,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        received_by TEXT NOT NULL,
        completed_at INTEGER,
        next_part INTEGER NOT NULL,
        digest BLOB NOT NULL,
        added INTEGER NOT NULL,
        replaced INTEGER NOT NULL,
        unchanged INTEGER NOT NULL,
        UNIQUE (namespace, id)
    );
CREATE TABLE revenue_lines (
        number INTEGER PRIMARY KEY,
        import INTEGER NOT NULL,
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        customer TEXT NOT NULL,
        start_at INTEGER NOT NULL,
        end_at INTEGER NOT NULL,
        amount TEXT NOT NULL,
        currency TEXT NOT NULL,
        source TEXT NOT NULL,
        replaces INTEGER
    );
CREATE TABLE rollups (
        metric INTEGER NOT NULL,
        cube INTEGER NOT NULL,
        grain INTEGER NOT NULL,
        bucket INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        events INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        other_currency INTEGER NOT NULL,
        giga INTEGER NOT NULL,
        ones INTEGER NOT NULL,
        nano INTEGER NOT NULL,
        atto INTEGER NOT NULL,
        rank BLOB NOT NULL,
        value TEXT,
        PRIMARY KEY (metric, cube, grain, bucket, customer, dimensions)
    ) WITHOUT ROWID;
INSERT INTO "rollups" VALUES(1,0,0,490000,'','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,1,20416,'','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,2,24310,'','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,3,72932,'','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,0,490000,'cus_1','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,1,20416,'cus_1','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,2,24310,'cus_1','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,3,72932,'cus_1','',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,0,490000,'','[""]',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,1,20416,'','[""]',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,2,24310,'','[""]',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490000,'cus_1','[""]',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20416,'cus_1','[""]',50,0,0,0,50,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,2,24310,'cus_1','[""]',50,0,0,0,50,0,0,X'',NULL);
CREATE TABLE webhook_messages (
        webhook INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        message TEXT NOT NULL,
        namespace TEXT NOT NULL,
        budget TEXT NOT NULL,
        PRIMARY KEY (webhook, attempts, created_at, message_id)
    ) WITHOUT ROWID;
CREATE TABLE webhooks (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        namespace TEXT NOT NULL,
        url TEXT NOT NULL,
        secret BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        failing_since INTEGER,
        delivered_at INTEGER,
        attempt_at INTEGER NOT NULL,
        disabled_at INTEGER, old_secrets TEXT NOT NULL DEFAULT '[]',
        UNIQUE (namespace, id)
    );
CREATE TABLE wide_sums (
        metric INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        value TEXT NOT NULL
    );
CREATE INDEX events_by_time ON events (namespace, type, at);
CREATE INDEX wide_sums_by_hour ON wide_sums (metric, hour);
CREATE UNIQUE INDEX api_keys_by_id ON api_keys (id);
CREATE INDEX costs_by_type ON costs (namespace, event_type);
CREATE INDEX revenue_lines_by_key ON revenue_lines (namespace, source, key, number);
CREATE INDEX revenue_lines_by_end ON revenue_lines (namespace, end_at);
CREATE INDEX revenue_lines_by_import ON revenue_lines (import);
CREATE INDEX rates_by_pair
        ON rates (namespace, from_currency, to_currency, valid_from, number);
CREATE UNIQUE INDEX costs_by_definition ON costs (definition);
CREATE INDEX events_by_id ON events (id);
CREATE INDEX corrections_by_event ON corrections (event_id, number);
CREATE INDEX corrections_by_namespace ON corrections (namespace, number);
CREATE INDEX entries_by_time ON entries (namespace, type, effective_at);
CREATE INDEX entries_by_event ON entries (event_id, number);
CREATE INDEX budgets_by_customer ON budgets (namespace, customer);
CREATE INDEX webhook_messages_by_budget ON webhook_messages (namespace, budget);
CREATE TRIGGER access_of_new_key AFTER INSERT ON api_keys
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
CREATE TRIGGER access_of_changed_key AFTER UPDATE OF
        digest, namespace, permissions, expires_at, revoked_at ON api_keys
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
CREATE TRIGGER access_of_deleted_key AFTER DELETE ON api_keys
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
CREATE TRIGGER access_of_ended_token AFTER INSERT ON ended_tokens
    BEGIN UPDATE progress SET access_version = access_version + 1; END;
COMMIT;
