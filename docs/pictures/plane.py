"""Draws plane.png, the picture of the README, so that no photo with a licence of its own is needed. Needs Pillow."""
from PIL import Image, ImageDraw, ImageFilter
import math, random
random.seed(3)
S=3; W,H=640,420
def canvas(): return Image.new('RGBA',(W*S,H*S),(0,0,0,0))
# sky
sky=Image.new('RGB',(W,H))
px=sky.load()
for y in range(H):
    t=y/H
    for x in range(W): px[x,y]=(int(70+110*t),int(130+85*t),int(205+35*t))
sky=sky.resize((W*S,H*S)).convert('RGBA')
# clouds
c=canvas(); d=ImageDraw.Draw(c)
for cx,cy,n in [(110,330,40),(330,360,60),(560,320,50),(520,80,14),(90,90,12)]:
    for _ in range(n):
        x=cx+random.gauss(0,60); y=cy+random.gauss(0,14); r=random.uniform(14,38)
        d.ellipse([(x-r*1.4)*S,(y-r*.6)*S,(x+r*1.4)*S,(y+r*.6)*S],fill=(255,255,255,60))
c=c.filter(ImageFilter.GaussianBlur(9*S)); sky.alpha_composite(c)
p=canvas(); d=ImageDraw.Draw(p)
def poly(pts,fill): d.polygon([(x*S,y*S) for x,y in pts],fill=fill)
# far wing, tail
poly([(300,205),(395,130),(425,128),(372,206)],(150,156,168,255))
poly([(120,190),(98,120),(128,120),(178,186)],(38,74,150,255))
poly([(118,200),(70,176),(92,174),(165,198)],(160,166,178,255))
# fuselage with shading
for i in range(60):
    t=i/59
    y=182+t*44
    half=math.sqrt(max(0,1-((t-.5)*2)**2))
    x0=110+ (1-half)*26 + (t*0.0); x1=500+half*42
    shade=int(246-110*max(0,t-.35))
    d.line([(x0*S,y*S),(x1*S,y*S)],fill=(shade,shade,min(255,shade+6),255),width=int(1.4*S))
poly([(110,186),(180,182),(180,200),(130,206)],(240,240,244,255))
# stripe and windows
poly([(125,203),(535,203),(530,208),(130,208)],(38,74,150,255))
for i in range(24):
    x=190+i*12.5
    d.rounded_rectangle([x*S,193*S,(x+5)*S,199*S],radius=2*S,fill=(50,60,80,255))
poly([(508,190),(528,194),(530,199),(510,198)],(40,50,70,255))
# near wing and engine
poly([(285,212),(370,212),(255,296),(222,298)],(196,200,208,255))
poly([(285,212),(300,212),(232,298),(222,298)],(150,155,165,255))
d.ellipse([262*S,240*S,322*S,264*S],fill=(120,126,140,255)); d.ellipse([310*S,241*S,324*S,263*S],fill=(50,54,66,255))
d.ellipse([352*S,168*S,392*S,182*S],fill=(130,136,150,255)); d.ellipse([384*S,169*S,393*S,181*S],fill=(60,64,76,255))
poly([(112,206),(160,206),(98,228),(78,228)],(178,184,194,255))
p=p.rotate(6,resample=Image.BICUBIC,center=(W*S/2,H*S/2))
sky.alpha_composite(p)
im=sky.convert('RGB').resize((W,H),Image.LANCZOS).filter(ImageFilter.GaussianBlur(.6))
im.save('plane.png')
