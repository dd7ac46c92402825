use std::os::unix::fs::symlink;
use std::path::Path;

use jiff::SignedDuration;
use rcgen::KeyPair;

use super::*;

type Made = rcgen::CertifiedKey<KeyPair>;

fn write(dir: &Path, name: &str, served: &Made) {
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

fn made() -> Made {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
}

fn now() -> Timestamp {
    vpa_runtime::clock::wall()
}

#[test]
fn changed_files_are_served_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", &made());
    let certificates = Certificates::load(files(dir.path(), "a", "a")).unwrap();
    assert!(!certificates.refresh(now()).unwrap());
    let first = certificates.served().key.cert.clone();

    std::fs::write(dir.path().join("a.crt"), "").unwrap();
    let error = certificates.refresh(now()).unwrap_err().to_string();
    assert!(error.contains("--tls-cert-file") && error.contains("no certificate"), "{error}");
    assert_eq!(certificates.served().key.cert, first);

    write(dir.path(), "a", &made());
    assert!(certificates.refresh(now()).unwrap());
    assert_ne!(certificates.served().key.cert, first);
}

#[test]
fn an_authority_is_taken_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", &made());
    let certificates = Certificates::load(files(dir.path(), "a", "a")).unwrap();
    assert!(certificates.served().authority.is_empty(), "nobody has to have one");
    let authority = made().cert.pem();
    let path = dir.path().join("ca.crt");
    std::fs::write(&path, &authority).unwrap();
    assert!(certificates.refresh(now()).unwrap());
    for broken in ["", "authority", &authority[..authority.len() / 2]] {
        std::fs::write(&path, broken).unwrap();
        let error = certificates.refresh(now()).unwrap_err().to_string();
        assert!(error.contains("--client-ca-file"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = certificates.refresh(now()).unwrap_err().to_string();
    assert!(error.contains("--client-ca-file") && error.contains("not there"), "{error}");
    assert_eq!(certificates.served().authority, authority.as_bytes());
}

/// A volume as the kubelet makes it: files are links into `..data`, which is a link to the folder of one version and is
/// changed in one step.
#[test]
fn a_volume_is_swapped_as_the_kubelet_does_it() {
    let volume = tempfile::tempdir().unwrap();
    let swap = |version: &str, served: &Made| {
        let folder = volume.path().join(version);
        std::fs::create_dir(&folder).unwrap();
        write(&folder, "tls", served);
        symlink(version, volume.path().join("..data_tmp")).unwrap();
        std::fs::rename(volume.path().join("..data_tmp"), volume.path().join("..data")).unwrap();
    };
    swap("..2024_01", &made());
    for file in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{file}"), volume.path().join(file)).unwrap();
    }
    let certificates = Certificates::load(files(volume.path(), "tls", "tls")).unwrap();
    let next = made();
    swap("..2024_02", &next);
    std::fs::remove_dir_all(volume.path().join("..2024_01")).unwrap();
    assert!(certificates.refresh(now()).unwrap());
    assert_eq!(certificates.served().leaf(), Some(next.cert.der()));
    assert!(!certificates.refresh(now()).unwrap());
}

#[test]
fn between_two_files_the_old_certificate_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (made(), made());
    write(dir.path(), "a", &first);
    let certificates = Certificates::load(files(dir.path(), "a", "a")).unwrap();
    // The certificate first, then the key, byte by byte more or less.
    std::fs::write(dir.path().join("a.crt"), second.cert.pem()).unwrap();
    let key = second.signing_key.serialize_pem();
    for text in [None, Some(""), Some(&key[..key.len() / 2])] {
        if let Some(text) = text {
            std::fs::write(dir.path().join("a.key"), text).unwrap();
        }
        let error = certificates.refresh(now()).unwrap_err().to_string();
        assert!(error.contains("--tls-private-key"), "{error}");
        assert_eq!(certificates.served().leaf(), Some(first.cert.der()));
    }
    std::fs::write(dir.path().join("a.key"), key).unwrap();
    assert!(certificates.refresh(now()).unwrap());
    assert_eq!(certificates.served().leaf(), Some(second.cert.der()));
}

#[test]
fn a_certificate_that_has_ended_takes_the_place_of_none_that_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let write = |made: Timestamp| {
        let content = kept::Content::new(&["localhost".to_owned()], made).unwrap();
        for (name, key) in [("a.crt", kept::LEAF), ("a.key", kept::LEAF_KEY)] {
            std::fs::write(dir.path().join(name), &content.data()[key].0).unwrap();
        }
    };
    write(now());
    let certificates = Certificates::load(files(dir.path(), "a", "a")).unwrap();
    write(now() - SignedDuration::from_hours(100 * 24));
    let error = certificates.refresh(now()).unwrap_err().to_string();
    assert!(error.contains("a.crt") && error.contains("ended at"), "{error}");
    certificates.check(now()).unwrap();
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
fn a_certificate_made_here_is_valid_now() {
    let certificates =
        Certificates::load(Source::SelfMade(vec!["127.0.0.1".into(), "localhost".into()])).unwrap();
    certificates.check(now()).unwrap();
    let (from, to) = certificates.served().valid;
    assert!(certificates.check(from - Duration::from_secs(1)).is_err());
    assert!(certificates.check(to + Duration::from_secs(1)).is_err());
    assert!(!certificates.refresh(to).unwrap(), "there are no files to look at");
    assert!(certificates.served().authority.starts_with(b"-----BEGIN CERTIFICATE-----"));
}
