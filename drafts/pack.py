"""FER2013 as lossless mosaics of WebP, 50 MB, for a machine that takes 64 MB: pack.py DATA OUT"""
import io, sys, numpy as np
from PIL import Image
from fer_helpers.readers import load_faces
f = load_faces(sys.argv[1])
img = f.images.numpy(); n=len(img)
c=64; parts=[]
for s in range(0,n,4096):
    a=img[s:s+4096]; r=-(-len(a)//c); pad=np.zeros((r*c,48,48),np.uint8); pad[:len(a)]=a
    m=pad.reshape(r,c,48,48).swapaxes(1,2).reshape(r*48,c*48)
    b=io.BytesIO(); Image.fromarray(m).save(b,"WEBP",lossless=True,quality=100,method=4,exact=True)
    back=np.asarray(Image.open(io.BytesIO(b.getvalue())).convert("L")); assert (back==m).all()
    parts.append(np.frombuffer(b.getvalue(),np.uint8))
np.savez(sys.argv[2], sizes=np.array([len(p) for p in parts]), pixels=np.concatenate(parts), labels=f.labels.numpy(), ids=f.ids, split=f.split, classes=np.array(f.classes), votes=f.votes.numpy().astype(np.float16), groups=f.groups, near=f.near_groups, source=np.array(f.source), fingerprint=np.array(f.fingerprint))
v=f.votes.numpy(); assert np.array_equal(v, v.astype(np.float16).astype(np.float32), equal_nan=True)
