PRAGMA application_id = 1869968492;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE api_keys (
        digest BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        namespace TEXT NOT NULL,
        permissions TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "api_keys" VALUES(X'0101010101010101010101010101010101010101010101010101010101010101','key','org_a','["*"]',1764000000000000);
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
    );
INSERT INTO "costs" VALUES(1,'cst_1','org_a','AI','1','USD','prod_1','cost.ai','SUM','$.amount','{"provider":"$.provider"}',NULL,1764000000000000,1764000000000000,NULL,NULL);
INSERT INTO "costs" VALUES(2,'cst_2','org_a','AI','1','USD','prod_1','cost.ai','LATEST','$.amount','{"provider":"$.provider"}',NULL,1764000000000000,1764000000000000,NULL,NULL);
INSERT INTO "costs" VALUES(3,'cst_3','org_a','AI','1','USD','prod_1','cost.ai','SUM','$.amount','{"provider":"$.provider"}',NULL,1764000000000000,1764000000000000,1764000000000000,0);
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
INSERT INTO "events" VALUES(1,'evt_1','org_a','key-1','cost.ai','tests','cus_1',NULL,NULL,1764000000000000,1764000000000000,'{"amount":0.0042,"provider":"anthropic"}');
INSERT INTO "events" VALUES(2,'evt_2','org_a','key-2','cost.ai','tests','cus_1',NULL,NULL,1764001800000000,1764000000000000,'{"amount":1e-30,"provider":"openai"}');
INSERT INTO "events" VALUES(3,'evt_3','org_a','key-3','cost.ai','tests','cus_2',NULL,NULL,1764007200000000,1764000000000000,'{"amount":12,"provider":"openai"}');
INSERT INTO "events" VALUES(4,'evt_4','org_a','key-4','cost.ai','tests','cus_2',NULL,NULL,1764180000000000,1764000000000000,'{"amount":"0.5","provider":"anthropic"}');
INSERT INTO "events" VALUES(5,'evt_5','org_a','key-5','cost.ai','tests','cus_1',NULL,NULL,1764180000000001,1764000000000000,'{"amount":null,"provider":"anthropic"}');
INSERT INTO "events" VALUES(6,'evt_6','org_a','key-6','cost.ai','tests','cus_3',NULL,NULL,1767240000000000,1764000000000000,'{"amount":-3,"provider":"bedrock"}');
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
INSERT INTO "products" VALUES('prod_1','org_a','Product','','{}',1764000000000000,1764000000000000);
CREATE TABLE progress (forgotten_seq INTEGER NOT NULL);
INSERT INTO "progress" VALUES(0);
CREATE TABLE receipts (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, key)
    ) WITHOUT ROWID;
INSERT INTO "receipts" VALUES('org_a','key-1',1);
INSERT INTO "receipts" VALUES('org_a','key-2',2);
INSERT INTO "receipts" VALUES('org_a','key-3',3);
INSERT INTO "receipts" VALUES('org_a','key-4',4);
INSERT INTO "receipts" VALUES('org_a','key-5',5);
INSERT INTO "receipts" VALUES('org_a','key-6',6);
CREATE TABLE rollups (
        cost INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        events INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        value TEXT,
        value_at INTEGER NOT NULL,
        value_seq INTEGER NOT NULL,
        PRIMARY KEY (cost, hour, customer, dimensions)
    ) WITHOUT ROWID;
INSERT INTO "rollups" VALUES(1,490000,'cus_1','["anthropic"]',1,0,'0.0042',1764000000000000,1);
INSERT INTO "rollups" VALUES(1,490000,'cus_1','["openai"]',1,0,'0.000000000000000000000000000001',1764001800000000,2);
INSERT INTO "rollups" VALUES(1,490002,'cus_2','["openai"]',1,0,'12',1764007200000000,3);
INSERT INTO "rollups" VALUES(1,490050,'cus_1','["anthropic"]',1,1,NULL,-9223372036854775808,0);
INSERT INTO "rollups" VALUES(1,490050,'cus_2','["anthropic"]',1,0,'0.5',1764180000000000,4);
INSERT INTO "rollups" VALUES(1,490900,'cus_3','["bedrock"]',1,0,'-3',1767240000000000,6);
INSERT INTO "rollups" VALUES(2,490000,'cus_1','["anthropic"]',1,0,'0.0042',1764000000000000,1);
INSERT INTO "rollups" VALUES(2,490000,'cus_1','["openai"]',1,0,'0.000000000000000000000000000001',1764001800000000,2);
INSERT INTO "rollups" VALUES(2,490002,'cus_2','["openai"]',1,0,'12',1764007200000000,3);
INSERT INTO "rollups" VALUES(2,490050,'cus_1','["anthropic"]',1,1,NULL,-9223372036854775808,0);
INSERT INTO "rollups" VALUES(2,490050,'cus_2','["anthropic"]',1,0,'0.5',1764180000000000,4);
INSERT INTO "rollups" VALUES(2,490900,'cus_3','["bedrock"]',1,0,'-3',1767240000000000,6);
CREATE INDEX events_by_time ON events (namespace, type, at);
COMMIT;
