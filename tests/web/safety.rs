//! Whom the server answers.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use serde_json::json;

use crate::support::{Site, echo};

/// A browser that was let in: its cookie, and the key in its pages.
async fn browser(site: &Site) -> (String, String) {
    let entered = site.request(Method::GET, &format!("/?token={}", site.token)).send().await.unwrap();
    let cookie = entered.headers()[SET_COOKIE].to_str().unwrap();
    let session = cookie.split(';').next().unwrap().to_owned();
    let page = site.request(Method::GET, "/").header(COOKIE, &session).send().await.unwrap().text().await.unwrap();
    let key = page.split("name=\"plandag-token\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    (session, key.to_owned())
}

#[tokio::test]
async fn of_24_requests_only_the_4_legitimate_ones_pass() {
    let site = Site::start().await;
    let (session, key) = browser(&site).await;
    let body = json!({ "plan": { "steps": [echo("a", 1)] } }).to_string();
    let (mut passed, mut tried) = (Vec::new(), 0);
    for host in [&site.address.to_string(), "evil.example"] {
        for origin in [None, Some(format!("http://{}", site.address)), Some("http://evil.example".to_owned())] {
            for who in ["script", "page", "page without its key", "nobody"] {
                let mut request = site.request(Method::POST, "/api/runs").header(CONTENT_TYPE, "application/json");
                request = request.header(HOST, host).body(body.clone());
                if let Some(origin) = &origin {
                    request = request.header(ORIGIN, origin);
                }
                request = match who {
                    "script" => request.header(AUTHORIZATION, format!("Bearer {}", site.token)),
                    "page" => request.header(COOKIE, &session).header("X-Plandag-Token", &key),
                    "page without its key" => request.header(COOKIE, &session),
                    _ => request,
                };
                tried += 1;
                let status = request.send().await.unwrap().status().as_u16();
                match status {
                    201 => passed.push((host == "evil.example", origin.clone(), who)),
                    status => assert!(matches!(status, 401 | 403), "{status}: {host} {origin:?} {who}"),
                }
            }
        }
    }
    let own = Some(format!("http://{}", site.address));
    let legitimate =
        [(false, None, "script"), (false, None, "page"), (false, own.clone(), "script"), (false, own, "page")];
    assert_eq!((tried, passed), (24, legitimate.to_vec()));
    assert_eq!(site.get("/api/runs").await.body["runs"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn the_token_in_the_address_is_exchanged_for_a_cookie() {
    let site = Site::start().await;
    let entered = site.request(Method::GET, &format!("//evil.example/runs/x?a=b&token={}", site.token));
    let entered = entered.send().await.unwrap();
    assert_eq!(entered.status(), 303);
    assert_eq!(entered.headers()[LOCATION], "/evil.example/runs/x");
    let cookie = entered.headers()[SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(&site.token));
    for path in ["/?token=", "/?token=wrong", "/", "/runs/x", "/assets/page.js", "/api", "/api/runs"] {
        let refused = site.request(Method::GET, path).send().await.unwrap();
        assert_eq!(refused.status(), 401, "{path}");
        assert!(refused.headers().get(SET_COOKIE).is_none());
    }
    // Addresses end up in logs and histories: those of the API take no token.
    let api = site.request(Method::GET, &format!("/api/runs?token={}", site.token)).send().await.unwrap();
    assert_eq!(api.status(), 401);
}

#[tokio::test]
async fn two_servers_do_not_know_each_other() {
    let (one, other) = (Site::start().await, Site::start().await);
    assert_ne!(one.token, other.token);
    let (session, _) = browser(&one).await;
    let foreign = other.request(Method::GET, "/").header(COOKIE, &session).send().await.unwrap();
    assert_eq!(foreign.status(), 401);
    let foreign = other.request(Method::GET, "/api").header(AUTHORIZATION, format!("Bearer {}", one.token));
    assert_eq!(foreign.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn what_a_browser_sends_for_another_site_is_refused() {
    let site = Site::start().await;
    let (session, key) = browser(&site).await;
    let status = async |method: Method, path: &str, fetch_site: &str, mode: &str| {
        let request = site.request(method, path).header(COOKIE, &session).header("X-Plandag-Token", &key);
        let request = request.header("Sec-Fetch-Site", fetch_site).header("Sec-Fetch-Mode", mode);
        request.header(CONTENT_TYPE, "application/json").body("{}").send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(Method::GET, "/api/runs", "same-origin", "cors").await, 200);
    assert_eq!(status(Method::GET, "/", "none", "navigate").await, 200);
    assert_eq!(status(Method::GET, "/", "cross-site", "navigate").await, 200, "a link to a page");
    assert_eq!(status(Method::GET, "/", "cross-site", "no-cors").await, 403, "a page as an image");
    assert_eq!(status(Method::GET, "/api/runs", "cross-site", "navigate").await, 403);
    for fetch_site in ["cross-site", "same-site", "nonsense"] {
        assert_eq!(status(Method::GET, "/api/runs", fetch_site, "cors").await, 403);
        assert_eq!(status(Method::POST, "/api/runs", fetch_site, "cors").await, 403);
        assert_eq!(status(Method::POST, "/api/runs", fetch_site, "navigate").await, 403, "a form");
    }
    for origin in ["null", "https://evil.example", "http://localhost:1", ""] {
        let request = site.request(Method::GET, "/api/runs").header(COOKIE, &session).header(ORIGIN, origin);
        assert_eq!(request.send().await.unwrap().status(), 403, "{origin}");
    }
}

#[tokio::test]
async fn nothing_changes_by_a_get() {
    let site = Site::start().await;
    let run = site.run(json!([echo("a", 1)])).await;
    site.until(&run, "succeeded").await;
    for action in ["cancel", "resume", "retry", "fork", "steps/a/approve", "steps/a/deny", "steps/a/resolve"] {
        let answer = site.get(&format!("/api/runs/{run}/{action}")).await;
        assert_eq!(answer.status, 405, "{action}");
    }
}

#[tokio::test]
async fn every_answer_says_how_it_may_be_used() {
    let site = Site::start().await;
    let has_all = |headers: &HeaderMap| {
        let has =
            |name: &str, text: &str| headers.get(name).is_some_and(|value| value.to_str().unwrap().contains(text));
        has("content-security-policy", "default-src 'none'; script-src 'self'")
            && has("content-security-policy", "frame-ancestors 'none'")
            && has("x-content-type-options", "nosniff")
            && has("referrer-policy", "no-referrer")
            && has("cache-control", "no-store")
            && headers.get("access-control-allow-origin").is_none()
    };
    for path in ["/", "/assets/page.js", "/api/runs", "/api/nothing", "/runs/nobody"] {
        for request in [site.script(Method::GET, path), site.request(Method::GET, path)] {
            let response = request.send().await.unwrap();
            assert!(has_all(response.headers()), "{path}: {:?}", response.headers());
        }
    }
}

#[tokio::test]
async fn a_host_is_named_once_and_the_same_everywhere() {
    let site = Site::start().await;
    let (host, token) = (site.address, &site.token);
    let line = format!("Authorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    for (request, status) in [
        (format!("GET /api HTTP/1.1\r\nHost: {host}\r\n{line}"), "200"),
        (format!("GET http://{host}/api HTTP/1.1\r\nHost: {host}\r\n{line}"), "200"),
        (format!("GET http://evil.example/api HTTP/1.1\r\nHost: {host}\r\n{line}"), "403"),
        (format!("GET /api HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n{line}"), "403"),
        (format!("GET /api HTTP/1.1\r\n{line}"), "403"),
        (format!("GET /api HTTP/1.0\r\n{line}"), "403"),
    ] {
        let answer = site.raw(request.as_bytes()).await;
        assert!(answer.get(9..12) == Some(status), "{request}{answer}");
    }
}
