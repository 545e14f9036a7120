use super::*;

#[track_caller]
fn check(objective: &str, form: Form, subjects: &[&str], aspects: &[&str]) {
    let read = read(objective).unwrap();
    assert_eq!((read.form, read.subjects, read.aspects), (form, owned(subjects), owned(aspects)), "{objective}");
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn comparisons() {
    use Form::Comparison;
    let servers = ["Apache", "nginx", "HAProxy"];
    check(
        "Compare Apache, nginx and HAProxy on TLS, caching and load balancing",
        Comparison,
        &servers,
        &["TLS", "caching", "load balancing"],
    );
    check("compare Apache, nginx, and HAProxy", Comparison, &servers, &[]);
    check("Please compare 3 web servers: Apache, nginx and HAProxy on TLS.", Comparison, &servers, &["TLS"]);
    check("Compare three web servers: Apache, nginx and HAProxy", Comparison, &servers, &[]);
    check("SQLite vs LMDB", Comparison, &["SQLite", "LMDB"], &[]);
    check(
        "SQLite vs. LMDB vs RocksDB on durability & speed?",
        Comparison,
        &["SQLite", "LMDB", "RocksDB"],
        &["durability", "speed"],
    );
    check("Compare SQLite with LMDB in terms of durability", Comparison, &["SQLite", "LMDB"], &["durability"]);
    check("What is the difference between a mutex and a semaphore?", Comparison, &["mutex", "semaphore"], &[]);
    check("Ruby on Rails vs Django on speed", Comparison, &["Ruby on Rails", "Django"], &["speed"]);
    check("Compare the speed and safety of Rust and C++", Comparison, &["Rust", "C++"], &["speed", "safety"]);
    check("How do ext4 and XFS differ in journaling?", Comparison, &["ext4", "XFS"], &["journaling"]);
    check("How does fsync differ from fdatasync?", Comparison, &["fsync", "fdatasync"], &[]);
    check("How does ext4 compare to XFS on journaling?", Comparison, &["ext4", "XFS"], &["journaling"]);
    check("Which is faster, grep or awk?", Comparison, &["grep", "awk"], &["faster"]);
    check("COMPARE A AND B ON X", Comparison, &["A", "B"], &["X"]);
    check(
        "Compare these on TLS and caching:\n- nginx\n- HAProxy",
        Comparison,
        &["nginx", "HAProxy"],
        &["TLS", "caching"],
    );
    check("Compare A, a, B, and B on X", Comparison, &["A", "B"], &["X"]);
}

#[test]
fn unnamed_subjects_are_one() {
    check(
        "Compare 8 vector databases: price, latency, licence",
        Form::Topics,
        &["vector databases"],
        &["price", "latency", "licence"],
    );
}

#[test]
fn questions() {
    check("How does SQLite make commits durable?", Form::Question, &["How does SQLite make commits durable?"], &[]);
    check("what is a write-ahead log", Form::Question, &["what is a write-ahead log"], &[]);
    check("Compaction?", Form::Question, &["Compaction?"], &[]);
}

#[test]
fn topics() {
    check("research memory ordering", Form::Topics, &["memory ordering"], &[]);
    check("Write a short report on B-trees", Form::Topics, &["B-trees"], &[]);
    check("Could you please summarise crash recovery", Form::Topics, &["crash recovery"], &[]);
    check(
        "Research PostgreSQL: vacuum, replication, indexes",
        Form::Topics,
        &["PostgreSQL"],
        &["vacuum", "replication", "indexes"],
    );
    check(
        "Research TLS, caching and load balancing in HAProxy",
        Form::Topics,
        &["HAProxy"],
        &["TLS", "caching", "load balancing"],
    );
    check("research the history of the borrow checker", Form::Topics, &["history of the borrow checker"], &[]);
    check("research vacuum, wal and replication slots", Form::Topics, &["vacuum", "wal", "replication slots"], &[]);
    check("- vacuum\n- 2 phase commit\n\n3. indexes", Form::Topics, &["vacuum", "2 phase commit", "indexes"], &[]);
    check("Research the following:\nvacuum\nindexes", Form::Topics, &["vacuum", "indexes"], &[]);
    check("PostgreSQL:\nvacuum\nindexes", Form::Topics, &["PostgreSQL"], &["vacuum", "indexes"]);
    check("explain how fsync works", Form::Topics, &["fsync works"], &[]);
    check("Write a report on locks and barriers: cost, use", Form::Topics, &["locks", "barriers"], &["cost", "use"]);
    check("What does curl do about proxies and timeouts?", Form::Topics, &["curl"], &["proxies", "timeouts"]);
    check("durability", Form::Topics, &["durability"], &[]);
}

#[test]
fn nothing_is_nothing() {
    for nothing in ["", "  \n\t", "?!", "---\n***"] {
        assert_eq!(read(nothing), None);
    }
}

#[test]
fn odd_objectives_do_not_panic() {
    let odd = [
        "compare",
        "vs",
        " vs ",
        "compare and",
        "a vs",
        "research",
        "compare : :",
        "İ vs ẞ on ß",
        "write a",
        "on on on",
        "compare é,ü and ö on ñ",
        ",,,a",
        "which is , or",
        "how do differ",
    ];
    for objective in odd {
        let _ = read(objective);
        let _ = read(&format!("{objective} ").repeat(300));
        let _ = read(&format!("{objective}\n").repeat(3));
    }
}
