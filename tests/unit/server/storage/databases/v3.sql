PRAGMA application_id = 1869968492;
PRAGMA user_version = 3;
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
CREATE TABLE progress (forgotten_seq INTEGER NOT NULL, noted_seq INTEGER NOT NULL DEFAULT 0, folded_seq INTEGER NOT NULL DEFAULT 0);
INSERT INTO "progress" VALUES(0,0,6);
CREATE TABLE receipts (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (namespace, key)
    ) WITHOUT ROWID;
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
INSERT INTO "rollups" VALUES(1,0,0,490000,'','',2,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,0,490002,'','',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,0,490050,'','',2,1,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,0,490900,'','',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,1,20416,'','',3,0,0,0,12,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,1,20418,'','',2,1,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,1,20454,'','',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,2,24310,'','',5,1,0,0,12,504200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,0,2,24312,'','',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,0,490000,'cus_1','',2,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,0,490002,'cus_2','',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,0,490050,'cus_1','',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,0,490050,'cus_2','',1,0,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,0,490900,'cus_3','',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,1,20416,'cus_1','',2,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,1,20416,'cus_2','',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,1,20418,'cus_1','',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,1,20418,'cus_2','',1,0,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,1,20454,'cus_3','',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,2,24310,'cus_1','',3,1,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,2,24310,'cus_2','',2,0,0,0,12,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,1,2,24312,'cus_3','',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,0,490000,'','["anthropic"]',1,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,0,490000,'','["openai"]',1,0,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,0,490002,'','["openai"]',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,0,490050,'','["anthropic"]',2,1,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,0,490900,'','["bedrock"]',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,1,20416,'','["anthropic"]',1,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,1,20416,'','["openai"]',2,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,1,20418,'','["anthropic"]',2,1,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,1,20454,'','["bedrock"]',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,2,24310,'','["anthropic"]',3,1,0,0,0,504200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,2,24310,'','["openai"]',2,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,2,2,24312,'','["bedrock"]',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490000,'cus_1','["anthropic"]',1,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490000,'cus_1','["openai"]',1,0,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490002,'cus_2','["openai"]',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490050,'cus_1','["anthropic"]',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490050,'cus_2','["anthropic"]',1,0,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,0,490900,'cus_3','["bedrock"]',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20416,'cus_1','["anthropic"]',1,0,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20416,'cus_1','["openai"]',1,0,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20416,'cus_2','["openai"]',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20418,'cus_1','["anthropic"]',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20418,'cus_2','["anthropic"]',1,0,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,1,20454,'cus_3','["bedrock"]',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,2,24310,'cus_1','["anthropic"]',2,1,0,0,0,4200000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,2,24310,'cus_1','["openai"]',1,0,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,2,24310,'cus_2','["anthropic"]',1,0,0,0,0,500000000,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,2,24310,'cus_2','["openai"]',1,0,0,0,12,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(1,3,2,24312,'cus_3','["bedrock"]',1,0,0,-1,999999997,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(2,0,0,490000,'','',2,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,0,0,490002,'','',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,0,0,490050,'','',2,1,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,0,0,490900,'','',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,0,1,20416,'','',3,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,0,1,20418,'','',2,1,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,0,1,20454,'','',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,0,2,24310,'','',5,1,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,0,2,24312,'','',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,1,0,490000,'cus_1','',2,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,1,0,490002,'cus_2','',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,1,0,490050,'cus_1','',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(2,1,0,490050,'cus_2','',1,0,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,1,0,490900,'cus_3','',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,1,1,20416,'cus_1','',2,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,1,1,20416,'cus_2','',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,1,1,20418,'cus_1','',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(2,1,1,20418,'cus_2','',1,0,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,1,1,20454,'cus_3','',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,1,2,24310,'cus_1','',3,1,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,1,2,24310,'cus_2','',2,0,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,1,2,24312,'cus_3','',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,2,0,490000,'','["anthropic"]',1,0,0,0,0,0,0,X'80064459416240000000000000000001','0.0042');
INSERT INTO "rollups" VALUES(2,2,0,490000,'','["openai"]',1,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,2,0,490002,'','["openai"]',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,2,0,490050,'','["anthropic"]',2,1,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,2,0,490900,'','["bedrock"]',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,2,1,20416,'','["anthropic"]',1,0,0,0,0,0,0,X'80064459416240000000000000000001','0.0042');
INSERT INTO "rollups" VALUES(2,2,1,20416,'','["openai"]',2,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,2,1,20418,'','["anthropic"]',2,1,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,2,1,20454,'','["bedrock"]',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,2,2,24310,'','["anthropic"]',3,1,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,2,2,24310,'','["openai"]',2,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,2,2,24312,'','["bedrock"]',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,3,0,490000,'cus_1','["anthropic"]',1,0,0,0,0,0,0,X'80064459416240000000000000000001','0.0042');
INSERT INTO "rollups" VALUES(2,3,0,490000,'cus_1','["openai"]',1,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,3,0,490002,'cus_2','["openai"]',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,3,0,490050,'cus_1','["anthropic"]',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(2,3,0,490050,'cus_2','["anthropic"]',1,0,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,3,0,490900,'cus_3','["bedrock"]',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,3,1,20416,'cus_1','["anthropic"]',1,0,0,0,0,0,0,X'80064459416240000000000000000001','0.0042');
INSERT INTO "rollups" VALUES(2,3,1,20416,'cus_1','["openai"]',1,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,3,1,20416,'cus_2','["openai"]',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,3,1,20418,'cus_1','["anthropic"]',1,1,0,0,0,0,0,X'',NULL);
INSERT INTO "rollups" VALUES(2,3,1,20418,'cus_2','["anthropic"]',1,0,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,3,1,20454,'cus_3','["bedrock"]',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
INSERT INTO "rollups" VALUES(2,3,2,24310,'cus_1','["anthropic"]',2,1,0,0,0,0,0,X'80064459416240000000000000000001','0.0042');
INSERT INTO "rollups" VALUES(2,3,2,24310,'cus_1','["openai"]',1,0,0,0,0,0,0,X'80064459ACAC12000000000000000002','0.000000000000000000000000000001');
INSERT INTO "rollups" VALUES(2,3,2,24310,'cus_2','["anthropic"]',1,0,0,0,0,0,0,X'800644832A3848000000000000000004','0.5');
INSERT INTO "rollups" VALUES(2,3,2,24310,'cus_2','["openai"]',1,0,0,0,0,0,0,X'8006445AEE8988000000000000000003','12');
INSERT INTO "rollups" VALUES(2,3,2,24312,'cus_3','["bedrock"]',1,0,0,0,0,0,0,X'8006474BA06ED0000000000000000006','-3');
CREATE TABLE wide_sums (
        metric INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        customer TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        value TEXT NOT NULL
    );
INSERT INTO "wide_sums" VALUES(1,490000,'cus_1','["openai"]','0.000000000000000000000000000001');
CREATE INDEX events_by_time ON events (namespace, type, at);
CREATE INDEX wide_sums_by_hour ON wide_sums (metric, hour);
COMMIT;
