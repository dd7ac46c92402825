use super::*;

fn write(dir: &Path, name: &str, served: &rcgen::CertifiedKey<KeyPair>) {
    std::fs::write(dir.join(format!("{name}.crt")), served.cert.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), served.signing_key.serialize_pem()).unwrap();
}

fn files(dir: &Path, certificate: &str, key: &str) -> Source {
    Source::Files {
        certificate: dir.join(format!("{certificate}.crt")),
        key: dir.join(format!("{key}.key")),
        authority: dir.join("ca.crt"),
    }
}

fn made() -> rcgen::CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
}

#[test]
fn changed_files_are_served_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", &made());
    let certificates = Certificates::load(files(dir.path(), "a", "a")).unwrap();
    let now = vpa_runtime::clock::wall();
    assert!(!certificates.refresh(now).unwrap());
    let first = certificates.served().key.cert.clone();

    std::fs::write(dir.path().join("a.crt"), "").unwrap();
    let error = certificates.refresh(now).unwrap_err().to_string();
    assert!(error.contains("--tls-cert-file") && error.contains("no certificate"), "{error}");
    assert_eq!(certificates.served().key.cert, first);

    write(dir.path(), "a", &made());
    assert!(certificates.refresh(now).unwrap());
    assert_ne!(certificates.served().key.cert, first);

    std::fs::write(dir.path().join("ca.crt"), "authority").unwrap();
    assert!(certificates.refresh(now).unwrap());
    assert_eq!(certificates.served().authority, b"authority");
}

#[test]
fn a_key_of_another_certificate_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", &made());
    write(dir.path(), "b", &made());
    let error = Certificates::load(files(dir.path(), "a", "b")).unwrap_err().to_string();
    assert!(error.contains("a.crt") && error.contains("b.key"), "{error}");
    let error = Certificates::load(files(dir.path(), "c", "b")).unwrap_err().to_string();
    assert!(error.contains("c.crt"), "{error}");
}

#[test]
fn a_certificate_made_here_is_valid_now_and_renewed_in_time() {
    let certificates =
        Certificates::load(Source::SelfMade(vec!["127.0.0.1".into(), "localhost".into()])).unwrap();
    let now = vpa_runtime::clock::wall();
    certificates.check(now).unwrap();
    assert!(!certificates.refresh(now).unwrap());
    let (from, to) = certificates.served().valid;
    assert!(certificates.check(from - Duration::from_secs(1)).is_err());
    assert!(certificates.check(to + Duration::from_secs(1)).is_err());
    assert!(certificates.refresh(to - Duration::from_secs(24 * 3600)).unwrap());
    assert!(certificates.served().authority.starts_with(b"-----BEGIN CERTIFICATE-----"));
}
